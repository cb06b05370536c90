"""What a relay needs of any broker. All of it raises BrokerError, and none of it waits for long."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Protocol, Sequence, Tuple

Fields = Dict[bytes, bytes]  # of a message, see whisperr._broker.messages
Entry = Tuple[bytes, Optional[Fields]]  # id, and None for one that was deleted while it was held


@dataclass(frozen=True)
class DeadLetter:
    """What can't be delivered, and why."""

    fields: Fields  # of the message
    reason: str  # in our words
    status: int | None = None
    detail: str | None = None  # in the server's: may hold anything
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: int = field(default_factory=lambda: int(1000 * time.time()))  # milliseconds since 1970

    def about(self) -> dict[str, str | int]:
        """What is written beside the message."""
        return {
            "reason": self.reason,
            "status": self.status or "",
            "detail": self.detail or "",
            "at": self.at,
        }


class Inbox(Protocol):
    """One app's messages, for one relay. What it has read is its own until it is settled."""

    def read(self, count: int, seconds: float) -> list[Entry]:
        """At most so many that it has not been given yet; waits for one at most these seconds."""
        ...

    def settle(self, ids: Sequence[bytes], dead: Iterable[DeadLetter]) -> None:
        """These are done with, and so many dead letters are written: first the letters, or both at once.

        After an error it may be called again with the same. ComesAgain: that would be of no use.
        """

    def lose(self) -> None:
        """What was read and is not settled shall be read again."""

    def keep_alive(self) -> None:
        """Called every second or so while nothing else is."""

    def leave(self) -> None:
        """At the end: give up what is not settled."""


class Presence(Protocol):
    """How the relays know of each other, where the broker does not do that for them."""

    def beat(self, seconds: float) -> None:
        """Give a sign of life, in at most these seconds. Called every second or so."""

    def unserved(self, served: Iterable[str]) -> list[str]:
        """Apps whose messages wait, as far as it can be known, and are not among these."""
        ...

    def leave(self, seconds: float) -> None:
        """At the end."""


class Letter(NamedTuple):
    """A dead letter that is looked at."""

    id: str
    about: dict[str, str]  # of the relay: reason, status, detail, at (milliseconds since 1970)
    message: Fields  # as it came

    def row(self) -> dict[str, Any]:
        """What may be shown in a list: nothing of the events themselves."""
        status = self.about.get("status")
        return {
            "id": self.id,
            "app": _text(self.message.get(b"app")),
            "kind": _text(self.message.get(b"kind")),
            "count": _text(self.message.get(b"n")),
            "bytes": len(self.message.get(b"body", b"")),
            "age": round(time.time() - int(self.about.get("at") or 0) / 1000, 1),
            "status": int(status) if status else None,
            "reason": self.about.get("reason", ""),
        }


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


class Depth(NamedTuple):
    """What no relay has settled, of one app."""

    messages: int
    age: float | None  # seconds, of the oldest; also where the broker does not say it


class Waiting(NamedTuple):
    """What lies in a broker at one moment."""

    apps: dict[str, Depth]
    dead_letters: int


class Broker(Protocol):
    """One broker, for relays and for who looks after them."""

    def presence(self, consumer: str, claim_after: float) -> Presence:
        """The sign of life of one relay."""
        ...

    def inbox(self, app: str, consumer: str, presence: Any) -> Inbox:
        """With a connection of its own."""
        ...

    def waiting(self, apps: Sequence[str], seconds: float) -> Waiting:
        """How much lies there, over a connection of its own: from any thread, at any time."""
        ...

    def status(self, apps: Iterable[str]) -> dict[str, Any]:
        """What waits. ``apps``: to look at, where the broker does not know of them itself."""
        ...

    def letters(self) -> Iterator[Letter]:
        """The dead letters, the oldest first."""
        ...

    def send_again(self, letter: Letter) -> bool:
        """Make it a message again, as it came. False: nobody knows where it came from."""
        ...

    def delete(self, letter: Letter) -> None:
        """Of the dead letters."""

    def close(self) -> None:
        """The connection that status() and those of the letters have used."""
