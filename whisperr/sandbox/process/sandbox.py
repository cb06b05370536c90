"""``Sandbox``: the server as a child process, with its controls as methods.

Guarantees:
    The server ends with stop(), with the end of the ``with`` block, and with this process.
    A fork of this process may use the controls; stop() and the end of the block do nothing there.
Assumes:
    start(), stop(), pause() and resume() are called by one thread. The controls hold no state
    and may be called by any.
"""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from whisperr.sandbox import defaults
from whisperr.sandbox.process.server_process import ServerProcess

CALL_TIMEOUT = 30.0  # seconds for one control call, on top of what it is told to wait


class Sandbox:
    """A server on loopback, running between ``start()`` and ``stop()`` or in a ``with`` block.

    port: 0 for any free one. keep_alive: seconds after which it closes an idle connection.
    numbers: the application numbers its events in ``properties.n``, each once: count these, too.
    Every method that takes a key is about the requests that were made with that API key.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        keep_alive: float = defaults.KEEP_ALIVE,
        numbers: bool = False,
    ) -> None:
        arguments = ["--port", str(port), "--keep-alive", str(keep_alive)]
        self._process = ServerProcess([*arguments, *(["--numbers"] if numbers else [])])

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address, to be used as ``base_url``; empty before the first start."""
        return self._process.url

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError when it was not started."""
        return self._process.pid

    # --- the process

    def start(self) -> Sandbox:
        """Start the server and wait until it listens, for 30 seconds at most.

        Raises:
            RuntimeError: It is started already, or it did not start; the text has what it said.
        """
        self._process.start()
        return self

    def stop(self) -> None:
        """End the server, by force if it must be; what it counted is gone. May be repeated."""
        self._process.stop()

    def pause(self) -> None:
        """Freeze the server: the kernel still accepts connections, but nothing is read.

        Returns once it is frozen.

        Raises:
            RuntimeError: It is not started.
            NotImplementedError: On Windows.
        """
        self._process.pause()

    def resume(self) -> None:
        """Let a paused server go on. Raises what ``pause()`` raises."""
        self._process.resume()

    # --- the controls

    def ledger(self, key: str) -> dict[str, Any]:
        """The counts, by name: ``arrived``, ``refused``, ``retried``, ``resent``, ``twice`` and more.

        *twice* counts what came again without an excuse, *resent* what had to be sent again since
        the answer to the first copy was lost.
        """
        return dict(self._call("GET", key, "ledger"))

    def events(self, key: str) -> list[dict[str, Any]]:
        """The first copy of every accepted event, in the order of arrival."""
        return list(self._call("GET", key, "events"))

    def identities(self, key: str) -> list[dict[str, Any]]:
        """Every accepted identity, in the order of arrival, without the resent ones."""
        return list(self._call("GET", key, "identities"))

    def requests(self, key: str) -> list[dict[str, Any]]:
        """Every request that was read: path, status (0: no answer), count, connection, time."""
        return list(self._call("GET", key, "requests"))

    def inject(self, key: str, *faults: dict[str, Any]) -> None:
        """Have the next requests fail; the reference of ``whisperr sandbox`` lists the faults.

        Raises:
            ValueError: It is no fault; the text says why.
        """
        self._call("POST", key, "faults", json.dumps(faults))

    def faults(self, key: str) -> list[dict[str, Any]]:
        """The faults that still wait, each with the ``times`` it has left."""
        return list(self._call("GET", key, "faults"))

    def clear_faults(self, key: str) -> None:
        """Drop the faults that still wait."""
        self._call("DELETE", key, "faults")

    def forget(self, key: str) -> None:
        """Start this key anew: ledger, events, requests and faults."""
        self._call("DELETE", key, "forget")

    def killed(self, key: str) -> int:
        """Say that a client of this key was killed just now; returns the number of entries that may come again.

        A killed client may not have read its last answer, so the latest request of each
        connection may be repeated once as *resent*.
        """
        return int(self._call("POST", key, "killed")["excused"])

    def wait_for(
        self, key: str, count: int, timeout: float = 10.0, *, field: str = "arrived"
    ) -> dict[str, Any]:
        """Wait until the ledger's ``field`` is at least ``count``.

        Args:
            key: The API key.
            count: The number that is waited for.
            timeout: How long to wait at most, in seconds.
            field: A name of the ledger.

        Returns:
            The ledger.

        Raises:
            TimeoutError: The number was not reached. It has the ledger.
        """
        query = urlencode({field: count, "timeout": timeout})
        found = self._call("GET", key, f"wait?{query}", timeout=timeout)
        if not found["reached"]:
            raise TimeoutError(f"{field} < {count} after {timeout} s: {found['ledger']}")
        return dict(found["ledger"])

    # --- inside

    def _call(
        self, method: str, key: str, what: str, body: str | None = None, timeout: float = 0.0
    ) -> Any:
        # http.client knows no proxies: nothing in the environment can come between.
        host = urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(host, timeout=timeout + CALL_TIMEOUT)
        try:
            connection.request(method, f"/sandbox/{quote(key, safe='')}/{what}", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer
