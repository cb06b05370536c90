"""A sandbox as one test sees it: with an API key of its own, so that nothing else is counted."""

from __future__ import annotations

from typing import Any

from whisperr import Whisperr
from whisperr.sandbox import Sandbox
from whisperr.testing._recording_engine import SandboxClient

TIMEOUT = 10.0  # seconds


class SandboxAccount:
    """A running ingestion server on loopback, and one API key there.

    Attributes:
        url: The ``base_url`` for clients.
        key: The ``api_key`` for clients; no other test has it.
    """

    def __init__(self, server: Sandbox, key: str) -> None:
        self._server = server
        self._clients: list[Whisperr] = []
        self.url = server.url
        self.key = key

    def client(self, **options: Any) -> Whisperr:
        """A client that sends here, and is shut down with the test.

        It sends also while ``whisperr_events`` records what all others are told, and where
        ``WHISPERR_DISABLED`` switches the others off.

        Args:
            options: Those of ``Whisperr``. ``api_key`` and ``base_url`` are those of the sandbox
                unless they are given.

        Raises:
            ValueError: An option is unusable.
        """
        here = {"api_key": self.key, "base_url": self.url, "broker_url": None, "app": None}
        client = SandboxClient(**{**here, "disabled": False, **options})
        self._clients.append(client)
        return client

    def events(self, count: int = 0, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The events that arrived, in the order of arrival, as they were sent.

        Args:
            count: Wait until so many have arrived; there may be more. With 0 it does not wait.
            timeout: How long to wait at most, in seconds.

        Raises:
            TimeoutError: There were fewer. It has the ledger.
        """
        if count:
            self._server.wait_for(self.key, count, timeout)
        return self._server.events(self.key)

    def identities(self, count: int = 0, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The identities that arrived; the arguments are those of ``events()``."""
        if count:
            self._server.wait_for(self.key, count, timeout, field="identities")
        return self._server.identities(self.key)

    def ledger(self) -> dict[str, Any]:
        """The counts of this key, by name: ``arrived``, ``refused``, ``twice``, ``resent`` and more."""
        return self._server.ledger(self.key)

    def inject(self, *faults: dict[str, Any]) -> None:
        """Have the next requests fail: ``{"do": "status", "status": 503, "times": 2}``.

        Args:
            faults: One after the other; the reference of ``whisperr sandbox`` lists them.

        Raises:
            ValueError: It is no fault; the text says why.
        """
        self._server.inject(self.key, *faults)

    def close(self) -> None:
        """Shut down the clients made here, for 1 second at most each. The fixture does it."""
        for client in self._clients:
            client.shutdown(1.0)
