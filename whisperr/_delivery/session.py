"""One POST with requests: the key, the connection, and an answer that is one. Raises.

Belongs to one transport and so to one process. The pools' queues have no lock, so that
urllib3's own clean-up at exit cannot hang on one that was held while the process was forked.

Everything that a request needs is imported here, before any thread is started: a lazy
import on the sending path could leave a child with a locked module.

What the application's tests put in the place of requests or urllib3 is believed nothing: an
answer has a number for its status and bytes for its body, or it is none, and no loop here goes
on for longer than its own count.
"""

from __future__ import annotations

import contextlib
import encodings.idna
import encodings.punycode  # noqa: F401
import http.client
import netrc  # noqa: F401
import queue
import socket
import ssl
from collections import deque
from typing import Any

import requests
import requests.adapters
import requests.auth
import requests.cookies
import requests.exceptions
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse
from urllib3.util import ssl_
from urllib3.util.retry import Retry
from urllib3.util.timeout import Timeout

from whisperr._clock import monotonic
from whisperr._delivery.outcome import Answer, Attempt, NoAnswer, Reply, failed, outcome_of
from whisperr._delivery.retry import RetryPolicy, retry_after
from whisperr._settings import Settings
from whisperr._version import SDK_NAME, __version__

_BODY_READ = 16 * 1024  # bytes of an answer; a longer one costs its connection
_READS = 64  # in which they have come, or likewise
_DETAIL = 2 * 1024  # characters of an answer that are kept for an error
_READ_HEADERS = ("Content-Type", "Retry-After", "Date")
_INTERIM_ANSWERS = 16  # "100 Continue" and the like, before the answer itself
SHORTEST_TIMEOUT = 0.001  # seconds; zero would make a socket non-blocking

_HEADERS = {
    "User-Agent": f"{SDK_NAME}/{__version__}",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed answer would be nothing but work
}

# A class below that is derived from a stand-in would be one for as long as the process lives.
# An import that fails is tried again.
for _base in (requests.adapters.HTTPAdapter, requests.auth.AuthBase, HTTPResponse, Timeout, Retry):
    if not issubclass(type(_base), type):
        raise ImportError("something stands in for a part of requests or urllib3")


class Session:
    """The way to one destination."""

    verb = "POST"

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.base_url
        #: before the first attempt of a send
        self.retries = RetryPolicy.allowing(settings.max_retries)
        self._auth = _KeyAuth(settings)
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._session = _new_session(self._adapter)
        self._templates: dict[str, requests.PreparedRequest] = {}  # by path
        self._environment: dict[str, Any] = {}  # its proxies and CAs, read once for a session

    def attempt(
        self, path: str, body: bytes, headers: dict[str, str], seconds: float, count: int
    ) -> Attempt:
        """Post once. Raises what is no matter of the network."""
        try:
            answer = self.post(path, body, headers, seconds)
        except NoAnswer as error:
            return Attempt(failed(error.__cause__ or error))
        outcome = outcome_of(answer.status, answer.content_type)
        return Attempt(Reply(outcome, answer.status, answer.detail), answer.retry_after)

    def post(self, path: str, body: bytes, headers: dict[str, str], seconds: float) -> Answer:
        """NoAnswer when there was none in time; anything else when something is not what it says."""
        request = self._request(path, body, headers)
        seconds = max(seconds, SHORTEST_TIMEOUT)
        until = monotonic() + seconds
        try:
            response = self._session.send(
                request,
                timeout=AttemptTimeout(seconds),  # type: ignore[arg-type]  # the stubs don't know urllib3's
                allow_redirects=False,
                **self._environment,
            )
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise NoAnswer from error
        except HTTPError as error:  # what requests does not translate
            raise NoAnswer from error
        try:
            return self._answer(response, until)
        except Exception:
            with contextlib.suppress(Exception):
                response.raw.close()
            raise

    def abort(self) -> None:
        """From any thread: whoever waits for an answer has lost the connection."""
        for connection in list(self._adapter.connections):
            made = getattr(connection, "sock", None)  # None: it is connecting, or closed
            if isinstance(made, socket.socket):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(made, socket.SHUT_RDWR)  # below TLS

    def close(self) -> None:
        """Close the connections. Only in the process that made this."""
        self._session.close()

    def _request(self, path: str, body: bytes, headers: dict[str, str]) -> requests.PreparedRequest:
        """A copy of what all requests to one path share: to prepare one costs as much as to send."""
        template = self._templates.get(path)
        if template is None:
            template = requests.PreparedRequest()
            template.prepare(
                method="POST",
                url=self._base_url + path,
                headers=_HEADERS,
                data=b"-",
                auth=self._auth,
                cookies=_NoCookies(),
            )
            url = template.url or ""
            environment = self._session.merge_environment_settings(url, {}, True, None, None)
            self._environment = {**environment, "stream": True}
            self._templates[path] = template
        request = template.copy()
        request.body = body
        request.headers.update({**headers, "Content-Length": str(len(body))})
        return request

    def _answer(self, response: requests.Response, until: float) -> Answer:
        status = response.status_code
        if not isinstance(status, int) or isinstance(status, bool):
            raise TypeError("the status is no number")
        body = _read(response.raw, until)
        if status < 200:  # the final answer may still follow, and would answer the next request
            self._session.close()
        headers = [response.headers.get(name) for name in _READ_HEADERS]
        kind, wait, date = (value if isinstance(value, str) else None for value in headers)
        detail = body[:_DETAIL].decode("utf-8", "replace")
        return Answer(int(status), kind or "", detail, retry_after(wait, date))


def _read(raw: Any, until: float) -> bytes:
    """Read the answer, so that its connection can serve again, or give the connection up."""
    body = b""
    try:
        for _ in range(_READS):
            if len(body) > _BODY_READ or monotonic() > until:
                break
            chunk = _chunk(raw)
            if not chunk:
                _release(raw)
                return body
            body += chunk
    except (HTTPError, OSError):  # the status has come: what it said counts
        pass
    raw.close()
    _release(raw)
    return body


def _chunk(raw: Any) -> bytes:
    """What has come, or a server that sends a byte now and then keeps us for hours."""
    if not isinstance(raw, HTTPResponse):  # vcrpy's, or a stand-in
        chunk = raw.read(_BODY_READ)
    elif hasattr(raw, "read1"):  # urllib3 2.1
        chunk = raw.read1(_BODY_READ, decode_content=False)
    else:
        chunk = raw.read(_BODY_READ, decode_content=False)
    if chunk is None:
        return b""
    if not isinstance(chunk, bytes):
        raise TypeError("the body is no bytes")
    return chunk


def _release(raw: Any) -> None:
    release = getattr(raw, "release_conn", None)
    if release is not None:
        release()


class AttemptTimeout(Timeout):
    """So many seconds for one attempt, by our own clock. The base asks one that may stand still."""

    def __init__(self, seconds: float) -> None:
        super().__init__(total=seconds, connect=seconds, read=seconds)
        self._seconds = seconds

    def clone(self) -> AttemptTimeout:
        return AttemptTimeout(self._seconds)

    def start_connect(self) -> float:
        self._start_connect = monotonic()
        return self._start_connect

    def get_connect_duration(self) -> float:
        return monotonic() - self._start_connect  # type: ignore[operator]


class _KeyAuth(requests.auth.AuthBase):
    """Sets the key on each request; as an auth, so that a ``.netrc`` can't replace it."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-API-Key"] = self._key.reveal()
        return request


class _NoCookies(requests.cookies.RequestsCookieJar):
    """Takes none, gives none: to look at them asks a clock that a test may have replaced."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass

    def add_cookie_header(self, request: Any) -> None:
        pass


class _LockFreeLifo:
    """The part of queue.LifoQueue that a pool uses (and vcrpy), without its mutex."""

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

    def empty(self) -> bool:
        return not self._items


class _Head(http.client.HTTPResponse):
    """The answer as http.client reads it, with an end, and with nothing that urllib3 would warn of."""

    _heads = 0

    def begin(self) -> None:
        super().begin()
        if self.headers is not None:  # a second call does nothing
            self.headers.defects = []
            self.headers.set_payload("")

    def _read_status(self) -> Any:
        self._heads += 1  # http.client reads "100 Continue" for as long as they come
        if self._heads > _INTERIM_ANSWERS:
            raise http.client.HTTPException("too many interim answers")
        return super()._read_status()  # type: ignore[misc]


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
        #: the newest: one for http or https, perhaps another that a server has closed
        self.connections: deque[Any] = deque(maxlen=2)
        super().init_poolmanager(*args, **kwargs)
        _with_our_pools(self.poolmanager, self.connections)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _with_our_pools(super().proxy_manager_for(*args, **kwargs), self.connections)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """What is read of it, and no cookies."""
        response = requests.Response()
        response.status_code = resp.status
        for name in _READ_HEADERS:
            response.headers[name] = resp.headers.get(name)
        response.raw = resp
        response.url = req.url or ""
        response.request = req
        return response


class _OurPool:
    """Beside urllib3's pool. By _new_conn and not by a class of connections: vcrpy replaces that."""

    QueueCls = _LockFreeLifo
    _made: deque[Any]  # connections of one session

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.response_class = _Head
        self._made.append(connection)
        return connection


def _with_our_pools(manager: Any, made: deque[Any]) -> Any:
    ours = {"_made": made}
    manager.pool_classes_by_scheme = {
        scheme: pool if issubclass(pool, _OurPool) else type(pool.__name__, (_OurPool, pool), ours)
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }  # a proxy's manager comes here for each request, before requests 2.32
    return manager


def _follow_gevent() -> None:
    """gevent patched ssl after urllib3 was imported, as in the workers of a preloading gunicorn.

    What urllib3 took from ssl would then recurse without end in its first HTTPS connection.
    """
    taken: Any = ssl_
    if taken.SSLContext.__module__ == "ssl":  # and not what pyOpenSSL put there
        taken.SSLContext = ssl.SSLContext


def _new_session(adapter: requests.adapters.HTTPAdapter) -> requests.Session:
    _follow_gevent()
    session = requests.Session()
    session.cookies = _NoCookies()
    # Nothing is followed. To say where it would have led, requests reads the whole answer.
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
