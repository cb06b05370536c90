"""How a command of ours serves HTTP: a socket that it bound itself, and a uvicorn that only serves.

Needs uvicorn, which is in the extras ``sandbox`` and ``relay``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import uvicorn


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Naming the protocol matters: asyncio switches Nagle off only where it reads "TCP".
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configuration(app: Any, **own: Any) -> uvicorn.Config:
    """For an ASGI application. ``own``: what this server has beside that, as uvicorn names it."""
    common = {
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "log_level": "error",
    }
    return uvicorn.Config(app, **{**common, **own})
