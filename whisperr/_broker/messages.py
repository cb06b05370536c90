"""What lies in the broker: the names of its keys, and the fields of a message.

A message is one body as the API takes it, and what a relay has to know of it without reading it. Each
app has a stream of its own, so that one whose key is missing or rejected keeps no other waiting.
"""

from __future__ import annotations

import hashlib
from typing import Mapping, NamedTuple

VERSION = b"1"
EVENTS, IDENTITY = b"events", b"identity"
MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # of a body; the API refuses more

# One hash tag: in a cluster all of it lies on one node, so that a transaction may span it.
_STREAM = "{whisperr}:events:"
DEAD_LETTERS = "{whisperr}:dead-letters"
_ALIVE = "{whisperr}:alive:"
APPS = "{whisperr}:apps"  # the set of all that have published
GROUP = "relays"
# In a RabbitMQ.
_QUEUE = "whisperr.events"
DEAD_LETTER_QUEUE = "whisperr.dead-letters"


class Damaged(Exception):
    """It is no message that this relay can deliver. The text says why, and repeats nothing of it."""


class Message(NamedTuple):
    """One body on its way."""

    kind: bytes  # EVENTS or IDENTITY
    body: bytes
    records: int  # events or identities in it
    app: str = ""  # "": that of the relay's only key
    key: bytes = b""  # the fingerprint of the key that its client has, if it has one
    id: bytes = b""  # the idempotency key of an identity; events have theirs inside

    def fields(self) -> list[bytes]:
        """As a broker takes them: name, value, name, value."""
        named = {**self._about_body(), b"body": self.body}
        return [part for item in named.items() for part in item]

    def headers(self) -> dict[str, str | int]:
        """The same without the body, for a broker whose messages have headers."""
        texts = {
            name.decode(): value.decode("ascii", "replace")
            for name, value in self._about_body().items()
        }
        return {**texts, "n": self.records}

    def _about_body(self) -> dict[bytes, bytes]:
        return {
            b"v": VERSION,
            b"app": self.app.encode(),
            b"key": self.key,
            b"kind": self.kind,
            b"id": self.id,
            b"n": b"%d" % self.records,
        }


def stream_of(app: str) -> str:
    return _STREAM + app


def queue_of(app: str) -> str:
    return f"{_QUEUE}.{app}" if app else _QUEUE


def alive_key(consumer: str) -> str:
    """There for as long as a relay lives, and a little longer."""
    return _ALIVE + consumer


def fingerprint(key: str) -> bytes:
    """Says whether two keys are the same, and nothing of the key; b"" for none."""
    if not key:
        return b""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"whisperr relay")
    return digest.hexdigest().encode()


def decode(fields: Mapping[bytes, bytes]) -> Message:
    """Raises Damaged."""
    version = fields.get(b"v")
    if version is None or b"body" not in fields:
        raise Damaged("it is no message of whisperr")
    if version != VERSION:
        raise Damaged("its format is of another version: a newer relay may deliver it")
    kind, body = fields.get(b"kind", b""), fields[b"body"]
    if kind not in (EVENTS, IDENTITY):
        raise Damaged("it is of an unknown kind")
    if len(body) > MAX_MESSAGE_BYTES:
        raise Damaged(f"it is larger than {MAX_MESSAGE_BYTES} bytes")
    try:
        count, app = int(fields.get(b"n", b"")), fields.get(b"app", b"").decode("ascii")
    except ValueError:
        raise Damaged("its count or its app can't be read") from None
    if count < 1 or (kind == IDENTITY and count != 1):
        raise Damaged("its count can't be right")
    return Message(kind, body, count, app, fields.get(b"key", b""), fields.get(b"id", b""))
