"""Who may talk to the sandbox: programs, and its own page; no page that came from elsewhere.

A name that an attacker makes point to 127.0.0.1 ("DNS rebinding") shows in ``Host``; a foreign
page shows in ``Origin`` and ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import ipaddress
from typing import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request

SAFE = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether a host name, or an address with or without brackets, means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class OriginGuard:
    """Refuses requests that a foreign page may have made.

    names: host names that mean this server, besides those of the loopback interface.

    everywhere: it listens to other machines, which may name it by any address.
    """

    def __init__(self, names: Iterable[str] = (), *, everywhere: bool = False) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._everywhere = everywhere

    def rejection(self, request: Request) -> str | None:
        """Why the request is refused, or None."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(_host_of("//" + hosts[0])):
            return "header Host: not a name of this sandbox (see --allow-host)"
        origins = request.headers.getlist("origin")
        safe = request.method in SAFE
        for origin in origins:
            if safe and not self._is_own(_host_of(origin)):
                return "header Origin: the sandbox does not answer to other sites"
            if not safe and _netloc_of(origin) != hosts[0].lower():
                return "header Origin: a page of another site may change nothing"
        site = request.headers.get("sec-fetch-site", "none")
        if not safe and site not in ("none", "same-origin"):
            return "header Sec-Fetch-Site: a page of another site may change nothing"
        return None

    def _is_own(self, host: str) -> bool:
        if is_loopback(host) or host.lower() in self._names:
            return True
        return self._everywhere and is_address(host)


def is_address(host: str) -> bool:
    """An IP address in digits, of either kind."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _netloc_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
