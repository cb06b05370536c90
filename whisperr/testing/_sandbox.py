"""A sandbox as one test sees it: with an API key of its own, so that nothing else is counted."""

from __future__ import annotations

from typing import Any

from whisperr import Whisperr
from whisperr.sandbox import Sandbox
from whisperr.testing._double import leave_out

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
        """A client that sends here, and is shut down with the test. The options are Whisperr's.

        It sends also while ``whisperr_events`` records what all others are told.
        """
        client = Whisperr(**{"api_key": self.key, "base_url": self.url, **options})
        leave_out(client)
        self._clients.append(client)
        return client

    def events(self, count: int = 0, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The events that arrived, as on the wire, once there are ``count``.

        Raises TimeoutError with the ledger after ``timeout`` seconds.
        """
        if count:
            self._server.wait_for(self.key, count, timeout)
        return self._server.events(self.key)

    def identities(self, count: int = 0, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The identities that arrived, likewise."""
        if count:
            self._server.wait_for(self.key, count, timeout, field="identities")
        return self._server.identities(self.key)

    def ledger(self) -> dict[str, Any]:
        """The counts: arrived, refused, twice, resent and more."""
        return self._server.ledger(self.key)

    def inject(self, *faults: dict[str, Any]) -> None:
        """Have the next requests fail: ``{"do": "status", "status": 503, "times": 2}``.

        Raises ValueError for what is no fault; ``whisperr.sandbox.faults`` lists them.
        """
        self._server.inject(self.key, *faults)

    def close(self) -> None:
        """Shut down the clients made here."""
        for client in self._clients:
            client.shutdown(1.0)
