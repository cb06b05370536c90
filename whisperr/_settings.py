"""The options of a client: frozen, validated where they are given, picklable.

All times are in seconds, all sizes in bytes.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
from dataclasses import dataclass, fields
from typing import Any, Callable, cast
from urllib.parse import urlsplit

from whisperr._errors import WhisperrError

DEFAULT_BASE_URL = "https://api.whisperr.net"
MAX_BATCH_SIZE = 500  # events; the service refuses more
ABORT_TIMEOUT = 0.5  # seconds an abort hook may take, see lifecycle
FLUSH_TIMEOUT = 30.0  # seconds of flush(None)

OnError = Callable[[WhisperrError], None]

_LONGEST_WAIT = (
    4_000_000.0  # seconds, some 46 days: more overflows a lock's time-out on some systems
)
_LARGEST = 2**40
_API_PATHS = ("/v1", "/v1/events", "/v1/events/batch", "/v1/events/track", "/v1/identify")
_HAS_LOCKS = importlib.util.find_spec("fcntl") is not None
# A legal header value that no proxy trims: visible ASCII, blanks only inside.
_LEGAL_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Key:
    """The ingestion key. It shows itself in no repr, and not in plain text in a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<key>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[Callable[[bytes], Key], tuple[bytes]]:
        return _unpickle_key, (base64.b85encode(self._value.encode()),)


def _unpickle_key(packed: bytes) -> Key:
    return Key(base64.b85decode(packed).decode())


@dataclass(frozen=True)
class Settings:
    """See ``Whisperr`` for the meaning of each option. ValueError names the unusable one."""

    key: Key
    base_url: str = DEFAULT_BASE_URL
    app_version: str | None = None
    flush_at: int = 20
    flush_interval: float = 10.0
    max_queue_size: int = 10_000
    max_batch_size: int = MAX_BATCH_SIZE
    max_retries: int = 6
    request_timeout: float = 10.0
    disabled: bool = False
    debug: bool = False
    on_error: OnError | None = None
    shutdown_timeout: float = 5.0
    max_event_bytes: int = 256 * 1024
    max_batch_bytes: int = 1024 * 1024
    max_queue_bytes: int = 64 * 1024 * 1024
    journal_dir: str | None = None
    max_journal_bytes: int = 64 * 1024 * 1024


def make_settings(api_key: str | None, options: dict[str, Any]) -> Settings:
    """Validate. ``options`` holds exactly the names of Settings' fields, without ``key``."""
    checked = {name: _CHECKS[name](name, value) for name, value in options.items()}
    if not checked["disabled"]:
        _check_key(api_key)
    elif api_key is not None and not isinstance(api_key, str):
        raise ValueError("api_key must be a string")
    return Settings(key=Key(api_key or ""), **checked)


def option_names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Settings) if field.name != "key")


def _check_key(api_key: object) -> None:
    if not api_key:
        raise ValueError("api_key is required (the app ingestion key, wrk_…)")
    if not isinstance(api_key, str):
        raise ValueError("api_key must be a string")
    if not _LEGAL_KEY.fullmatch(api_key):
        raise ValueError(
            "api_key is not a legal header value: only visible ASCII characters, "
            "no line break, no blank at either end"
        )


# --- one check per kind of option: (name, value) -> the value to keep, or ValueError


def _whole(low: int, high: int = _LARGEST, clamp: int | None = None) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(
                f"{name} must be a whole number, {low} to {high}; it is {_kind(value)}"
            )
        if clamp is not None and value > clamp:
            return clamp
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high}")
        return int(value)

    return check


def _seconds(low: float, low_is_legal: bool) -> Callable[[str, Any], float]:
    legal = f"{'at least' if low_is_legal else 'more than'} {low:g} and at most {_LONGEST_WAIT:.0f}"

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} must be a number of seconds, {legal}; it is {_kind(value)}")
        enough = value >= low if low_is_legal else value > low
        if not (enough and value <= _LONGEST_WAIT):  # NaN is neither
            raise ValueError(f"{name} must be {legal} seconds")
        return float(value)

    return check


def _flag(name: str, value: Any) -> bool:
    # Truth values of any type, as the published SDK took them: 1, "", a settings object.
    try:
        return bool(value)
    except Exception as error:
        raise ValueError(f"{name} must be True or False; it is {_kind(value)}") from error


def _callback(name: str, value: Any) -> OnError | None:
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be callable or None; it is {_kind(value)}")
    return cast("OnError | None", value)


def _version(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string or None; it is {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be Unicode text without lone surrogates") from None
    if len(value) > 256:
        raise ValueError(f"{name} must be at most 256 characters")
    return value.strip() or None


def _folder(name: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        path = os.fspath(value)
        os.fsencode(path)  # or every use of it would fail, by no OSError
    except (TypeError, UnicodeEncodeError):
        path = b""
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"{name} must be a path (a string, a Path) or None; it is {_kind(value)}")
    if not _HAS_LOCKS:
        raise ValueError(f"{name} needs an operating system with fcntl; this one has none")
    try:
        return os.path.abspath(path)  # a daemon changes its working folder
    except OSError:
        raise ValueError(f"{name} is relative to a folder that is gone") from None


def _url(name: str, value: Any) -> str:
    rule = f"{name} must be an http:// or https:// URL with a host and no credentials, query or fragment"
    if not isinstance(value, str):
        raise ValueError(f"{rule}; it is {_kind(value)}")
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for a port that is no number, or over 65535
    except ValueError:
        raise ValueError(rule) from None
    unusable = (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or "?" in value
        or "#" in value
        or not value.isprintable()
        or " " in value
        or "\\" in value
    )
    if unusable:
        raise ValueError(rule)
    for path in _API_PATHS:
        if parts.path.rstrip("/").lower().endswith(path):
            raise ValueError(f"{name} must not end in {path}: the client adds the paths of the API")
    return value.rstrip("/")


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


check_timeout = _seconds(0, low_is_legal=True)

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "base_url": _url,
    "app_version": _version,
    "flush_at": _whole(1),
    "flush_interval": _seconds(0, low_is_legal=False),
    "max_queue_size": _whole(1),
    "max_batch_size": _whole(1, MAX_BATCH_SIZE, clamp=MAX_BATCH_SIZE),
    "max_retries": _whole(0, 100),
    "request_timeout": _seconds(0, low_is_legal=False),
    "disabled": _flag,
    "debug": _flag,
    "on_error": _callback,
    "shutdown_timeout": check_timeout,
    "max_event_bytes": _whole(1024),
    "max_batch_bytes": _whole(1024),
    "max_queue_bytes": _whole(1024),
    "journal_dir": _folder,
    "max_journal_bytes": _whole(1024 * 1024),
}
