"""A message of a RabbitMQ as the fields that a relay knows, and back. Headers of any type are text here."""

from __future__ import annotations

from typing import Any, Mapping

from whisperr._relay.interfaces import Fields

ABOUT = "whisperr-"  # before the name of each header that the relay has given to a dead letter


def fields_of(message: Any) -> Fields:
    """Of a message of py-amqp. Without the headers that a relay has added."""
    headers = message.headers or {}
    named = {_bytes(name): _bytes(value) for name, value in headers.items()}
    fields = {
        name: value
        for name, value in named.items()
        if not name.startswith((ABOUT.encode(), b"x-"))  # x- are the broker's
    }
    return {**fields, b"body": _bytes(message.body)}


def about_of(message: Any) -> dict[str, str]:
    """What a relay has added."""
    headers: Mapping[str, Any] = message.headers or {}
    return {
        name[len(ABOUT) :]: str(value)
        for name, value in headers.items()
        if isinstance(name, str) and name.startswith(ABOUT)  # py-amqp: bytes, if it is no UTF-8
    }


def headers_of(fields: Fields) -> tuple[bytes, dict[str, str]]:
    """The body, and the headers."""
    headers = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in fields.items()
        if name != b"body"
    }
    return fields.get(b"body", b""), headers


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode("utf-8", "replace")
