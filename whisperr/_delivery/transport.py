"""One POST: a requests Session and a wakeable urllib3 Retry -> a Reply. Never raises.

Belongs to one engine and so to one process; send() is called by one thread at a time. An
inherited one is never used, closed or dropped in a child: the engine keeps it referenced.
The pools' queues have no lock, so that urllib3's own clean-up at exit cannot hang on one
that was held while the process was forked.

Everything that a request needs is imported here, before any thread is started: a lazy
import on the sending path could leave a child with a locked module.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import http.cookiejar
import netrc  # noqa: F401
import queue
import ssl
import time
from collections import deque
from typing import Any, Callable

import requests
import requests.adapters
import requests.auth
import urllib3.util.ssl_
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from whisperr._delivery.outcome import Outcome, Reply, outcome_of
from whisperr._delivery.retry import AttemptTimeout, Interrupted, Pause, WakeableRetry
from whisperr._settings import Settings
from whisperr._version import SDK_NAME, __version__

_BODY_READ = 16 * 1024  # bytes of an answer; a longer one costs its connection
_DETAIL = 2 * 1024  # characters of an answer that are kept for an error

_HEADERS = {
    "User-Agent": f"{SDK_NAME}/{__version__}",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed answer would be nothing but work
}


class Transport:
    """The way to one destination. ``pause`` waits between attempts, ``deadline`` bounds them."""

    def __init__(
        self, settings: Settings, pause: Pause, deadline: Callable[[], float | None]
    ) -> None:
        self._base_url = settings.base_url
        self._deadline = deadline
        self._timeout = AttemptTimeout(settings.request_timeout, deadline, self._count_attempt)
        self._sending = 0
        self.requests = 0
        self.retries = 0
        self.bytes_sent = 0  # of bodies, repeated ones too
        self._session = _new_session(settings, pause)
        self._templates: dict[str, requests.PreparedRequest] = {}  # by path
        self._environment: dict[str, Any] = {}  # its proxies and CAs, read once for a session

    def send(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        before = self.requests
        self._sending = len(body)
        try:
            response = self._session.send(
                self._request(path, body, headers or {}),
                timeout=self._timeout,  # type: ignore[arg-type]  # the stubs don't know urllib3's
                allow_redirects=False,
                **self._environment,
            )
            detail = self._finish(response.raw)
        except Interrupted:
            return Reply(Outcome.RETRY, interrupted=True)
        except Exception as error:  # the one border where foreign errors end
            return Reply(Outcome.RETRY, detail=str(error)[:_DETAIL], error=type(error).__name__)
        finally:
            self.retries += max(0, self.requests - before - 1)
        return Reply(outcome_of(response.status_code), response.status_code, detail)

    def _request(self, path: str, body: bytes, headers: dict[str, str]) -> requests.PreparedRequest:
        """A copy of what all requests to one path share: to prepare one costs as much as to send."""
        template = self._templates.get(path)
        if template is None:
            template = self._session.prepare_request(
                requests.Request("POST", self._base_url + path, data=b"-")
            )
            url = template.url or ""
            environment = self._session.merge_environment_settings(url, {}, True, None, None)
            self._environment = dict(environment)
            self._templates[path] = template
        request = template.copy()
        request.body = body
        request.headers.update({**headers, "Content-Length": str(len(body))})
        return request

    def close(self) -> None:
        """Close the connections. Only in the process that made this."""
        self._session.close()

    def _count_attempt(self) -> None:
        self.requests += 1
        self.bytes_sent += self._sending

    def _finish(self, raw: BaseHTTPResponse) -> str:
        """Read the answer, so that its connection can serve again, or give the connection up."""
        body = b""
        try:
            while len(body) <= _BODY_READ and not self._is_late():
                chunk = raw.read(_BODY_READ, decode_content=False)
                if not chunk:
                    break
                body += chunk
            else:
                raw.close()
        except (HTTPError, OSError):  # the status has come: what it said counts
            raw.close()
        raw.release_conn()
        if raw.status < 200:  # the final answer may still follow, and would answer the next request
            self._session.close()
        return body[:_DETAIL].decode("utf-8", "replace")

    def _is_late(self) -> bool:
        deadline = self._deadline()
        return deadline is not None and time.monotonic() > deadline


class _KeyAuth(requests.auth.AuthBase):
    """Sets the key on each request; as an auth, so that a ``.netrc`` can't replace it."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-API-Key"] = self._key.reveal()
        return request


class _LockFreeLifo:
    """The part of queue.LifoQueue that a pool uses, without its mutex."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: deque[Any] = deque()
        self._maxsize = maxsize

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, item: Any, block: bool = False, timeout: float | None = None) -> None:
        if len(self._items) >= self._maxsize > 0:
            raise queue.Full
        self._items.append(item)

    def qsize(self) -> int:
        return len(self._items)


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter for one destination; its pool (also a proxy's) has a lock-free queue.

    Gain: to look the pool up for each request is 15 % of its CPU (benchmarks: delivery).
    """

    _pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def close(self) -> None:
        self._pool = None
        super().close()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _free_of_locks(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _free_of_locks(super().proxy_manager_for(*args, **kwargs))


def _free_of_locks(manager: Any) -> Any:
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"QueueCls": _LockFreeLifo})
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }
    return manager


def _follow_gevent() -> None:
    """gevent patched ssl after urllib3 was imported, as in the workers of a preloading gunicorn.

    What urllib3 took from ssl would then recurse without end in its first HTTPS connection.
    """
    taken: Any = urllib3.util.ssl_
    if taken.SSLContext.__module__ == "ssl":  # and not what pyOpenSSL put there
        taken.SSLContext = ssl.SSLContext


def _new_session(settings: Settings, pause: Pause) -> requests.Session:
    _follow_gevent()
    session = requests.Session()
    session.auth = _KeyAuth(settings)
    session.headers.clear()
    session.headers.update(_HEADERS)
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=1, pool_maxsize=1)
    adapter.max_retries = WakeableRetry.policy(settings.max_retries, pause)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
