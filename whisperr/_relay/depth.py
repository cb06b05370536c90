"""How much waits in the broker, for those who can't wait: an answer in time, or none."""

from __future__ import annotations

import contextlib
import threading
from typing import Sequence

from whisperr._broker.errors import BrokerError
from whisperr._relay.interfaces import Broker, Waiting

SECONDS = 2.0  # for one look; Prometheus itself waits for 10


class DepthGauge:
    """Looks when it is asked. From any thread; each look has a connection and a thread of its own.

    The thread, since the look-up of a name has no bound: who asks does not wait for it. Those that
    are late end by themselves.
    """

    def __init__(self, broker: Broker, apps: Sequence[str]) -> None:
        self._broker = broker
        self._apps = apps

    def read(self) -> Waiting | None:
        """None: the broker could not be asked in these seconds."""
        found: list[Waiting] = []
        thread = threading.Thread(
            target=self._look, args=(found,), name="whisperr-depth", daemon=True
        )
        thread.start()
        thread.join(SECONDS)
        return found[0] if found else None

    def _look(self, found: list[Waiting]) -> None:
        with contextlib.suppress(BrokerError):
            found.append(self._broker.waiting(self._apps, SECONDS))
