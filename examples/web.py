"""A WSGI application: one client at import, one event for each request. Nothing else."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from accounts import Accounts, client_from_environment

accounts = Accounts(client_from_environment(), "web")
accounts.track("application_loaded")  # with preload_app: in the master, before any fork


def application(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
    accounts.track("payment_failed")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
