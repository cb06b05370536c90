"""The options of a client: frozen, validated where they are given, picklable.

All times are in seconds, all sizes in bytes. What was not given is looked for in the environment:
``flush_at`` is ``WHISPERR_FLUSH_AT``. OPTIONS is the one table of them; the client, the commands and
Django's settings all read it by ``find()``.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple
from urllib.parse import urlsplit

from whisperr._errors import WhisperrError

if TYPE_CHECKING:
    from whisperr._encoding.call_filter import BeforeSend, Names

DEFAULT_BASE_URL = "https://api.whisperr.net"
MAX_BATCH_SIZE = 500  # events; the service refuses more
ABORT_TIMEOUT = 0.5  # seconds an abort hook may take, see lifecycle
FLUSH_TIMEOUT = 30.0  # seconds of flush(None)

PREFIX = "WHISPERR_"  # of every variable of the environment that is an option

OnError = Callable[[WhisperrError], None]
Check = Callable[[str, Any], Any]  # (name, value) -> the value to keep, or ValueError

_LONGEST_WAIT = (
    4_000_000.0  # seconds, some 46 days: more overflows a lock's time-out on some systems
)
_LARGEST = 2**40
_API_PATHS = ("/v1", "/v1/events", "/v1/events/batch", "/v1/events/track", "/v1/identify")
_HAS_LOCKS = importlib.util.find_spec("fcntl") is not None
_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off", ""), False),
}
AMQP_SCHEMES = ("amqp", "amqps")
BROKER_SCHEMES = (*AMQP_SCHEMES, "redis", "rediss", "unix")
APP_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")  # so a variable of the environment can hold it
_LONGEST_APP = 64  # characters
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


class BrokerUrl(Key):
    """Where a broker is. It may hold a password, so it shows itself without, as a key does."""

    __slots__ = ()

    @property
    def place(self) -> str:
        """The URL without user, password and query."""
        parts = urlsplit(self.reveal())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def is_amqp(self) -> bool:
        """It is a RabbitMQ. Else a Redis."""
        return self.reveal().partition("://")[0].lower() in AMQP_SCHEMES

    @property
    def package(self) -> str:
        """Which speaks to it. Our extra that brings it has the same name."""
        return "amqp" if self.is_amqp else "redis"

    def __repr__(self) -> str:
        return self.place

    def __reduce__(self) -> tuple[Callable[[bytes], Key], tuple[bytes]]:
        return _unpickle_broker_url, super().__reduce__()[1]


def _unpickle_broker_url(packed: bytes) -> BrokerUrl:
    return BrokerUrl(_unpickle_key(packed).reveal())


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
    before_send: BeforeSend | None = None
    redact: Names = ()
    broker_url: BrokerUrl | None = None
    app: str | None = None

    @property
    def place(self) -> str:
        """Where it sends, for people: nothing secret is in it."""
        return self.base_url if self.broker_url is None else self.broker_url.place

    @property
    def destination(self) -> tuple[str, str]:
        """What tells this destination from others: the place, and whose events these are there."""
        key = self.key.reveal()
        return self.place, key if self.app is None else f"{self.app}\0{key}"


class Found(NamedTuple):
    """The value of one option, checked, and where it is from."""

    value: Any
    source: str  # "argument", the name of a variable of the environment, or "default"


def make_settings(
    api_key: str | None, given: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Settings:
    """What is given goes first, then the environment, then the default. ValueError names the source.

    Args:
        api_key: None or "": look for it in the environment.
        given: The options that were given, by name; None is a value, too.
        environment: Variables, an empty one is as none.
    """
    found = {name: find(name, given, environment).value for name in option_names()}
    if found["app"] is not None and found["broker_url"] is None and not found["disabled"]:
        raise ValueError("app is for a relay, which has the keys: it needs broker_url, too")
    if not api_key and not environment.get(variable_of("api_key")):
        if found["disabled"] or found["app"] is not None:
            return Settings(key=Key(""), **found)
        if found["broker_url"] is not None:
            raise ValueError(
                "api_key is required or, beside broker_url, app: the name by which the relay knows "
                f"the key, like shop; give it, or set {variable_of('app')}"
            )
    return Settings(key=Key(_find_key(api_key, found["disabled"], environment).value), **found)


def find(name: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> Found:
    """One option, other than ``api_key``. ValueError if it is unusable."""
    option = OPTIONS[name]
    if name in given:
        return Found(option.check(name, given[name]), "argument")
    variable = variable_of(name)
    text = environment.get(variable)
    if not text:
        return Found(getattr(Settings, name), "default")
    try:
        return Found(option.check(variable, option.parse(text)), variable)
    except ValueError as error:
        raise ValueError(f"{error} (from the environment)") from None


def find_key(environment: Mapping[str, str]) -> Found:
    """The key that the environment has; ValueError if it has none, or an unusable one."""
    return _find_key(None, False, environment)


def variable_of(name: str) -> str:
    """The variable of the environment for an option."""
    return PREFIX + name.upper()


def option_names() -> tuple[str, ...]:
    """All but ``api_key``, in the order of the signature."""
    return tuple(OPTIONS)


def unlikely(values: Mapping[str, Any]) -> list[str]:
    """Sentences about numbers that are legal, and make sense only in another unit."""
    found = []
    for name, option in OPTIONS.items():
        value = values.get(name, 0)
        if option.unit and option.unlikely_from <= value < option.unlikely_to:
            number = f"{value:g}" if isinstance(value, float) else str(value)
            found.append(f"{name} is {number} {option.unit}: {option.instead}")
    return found


def _find_key(api_key: object, disabled: bool, environment: Mapping[str, str]) -> Found:
    if api_key is not None and api_key != "":
        return Found(_checked_key("api_key", api_key, disabled), "argument")
    variable = variable_of("api_key")
    text = environment.get(variable)
    if text:
        try:
            return Found(_checked_key(variable, text, disabled), variable)
        except ValueError as error:
            raise ValueError(f"{error} (from the environment)") from None
    if not disabled:
        raise ValueError(
            f"api_key is required (the app ingestion key, wrk_…): give it, or set {variable}"
        )
    return Found("", "default")


def check_key(name: str, value: object) -> Key:
    """ValueError for what is no legal key; ``name``: where it is from."""
    return Key(_checked_key(name, value, disabled=False))


def _checked_key(name: str, value: object, disabled: bool) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    if not disabled and not _LEGAL_KEY.fullmatch(value):
        raise ValueError(
            f"{name} is not a legal header value: only visible ASCII characters, "
            "no line break, no blank at either end"
        )
    return value


# --- one check per kind of option: (name, value) -> the value to keep, or ValueError


def _whole(
    unit: str, low: int, high: int = _LARGEST, clamp: int | None = None
) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(
                f"{name} must be a whole number of {unit}, {low} to {high}; it is {_kind(value)}"
            )
        if clamp is not None and value > clamp:
            return clamp
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high} {unit}")
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
    # "false" is true to bool(), and what is meant to send would be silent.
    if value is None:
        return False
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(
        f"{name} must be True or False, or as text true, false, 1, 0, yes, no, on or off; "
        f"it is {_kind(value)}"
    )


def _callback(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be callable or None; it is {_kind(value)}")
    return value


def _names(name: str, value: Any) -> Names:
    names = value.split(",") if isinstance(value, str) else value or ()
    rule = f"{name} must be a list of names (strings) or compiled patterns"
    try:
        given = [item.strip() if isinstance(item, str) else item for item in names]
    except Exception:
        raise ValueError(f"{rule}; it is {_kind(value)}") from None
    for item in given:
        is_text_pattern = isinstance(item, re.Pattern) and isinstance(item.pattern, str)
        if not isinstance(item, str) and not is_text_pattern:
            raise ValueError(f"{rule}; one of them is {_kind(item)}")
    return tuple(item for item in given if item != "")


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


def _broker(name: str, value: Any) -> BrokerUrl | None:
    if value is None or isinstance(value, BrokerUrl):
        return value
    rule = (
        f"{name} must be an amqp://, amqps://, redis:// or rediss:// URL with a host, "
        "or a unix:// URL with a path"
    )
    if not isinstance(value, str):
        raise ValueError(f"{rule}; it is {_kind(value)}")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(rule) from None
    has_place = parts.path.strip("/") if parts.scheme == "unix" else parts.hostname
    unusable = (
        parts.scheme not in BROKER_SCHEMES
        or not has_place
        or parts.fragment
        or not value.isprintable()
        or " " in value
    )
    if unusable:
        raise ValueError(rule)
    return BrokerUrl(value)


def _app(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not APP_NAME.fullmatch(value) or len(value) > _LONGEST_APP:
        raise ValueError(
            f"{name} must be a name in lowercase snake_case, at most {_LONGEST_APP} characters; "
            f"it is {_kind(value)}"
        )
    return value


def _kind(value: object) -> str:
    return "another text" if isinstance(value, str) else f"of type {type(value).__name__}"


# --- a text of the environment -> what an argument would be; what is none is left to the check


def _text(text: str) -> str:
    return text


def _int(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _imported(text: str) -> object:
    """``module:name`` or ``module.name``. ValueError if it can't be imported."""
    module, _, name = text.strip().replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(f"{text!r} can't be imported ({type(error).__name__})") from None


check_timeout = _seconds(0, low_is_legal=True)


class Option(NamedTuple):
    """How one option is checked, and read from a text."""

    check: Check
    parse: Callable[[str], Any] = _text
    unit: str = ""
    # So much of its unit is rather something else; still more is meant, as "never".
    unlikely_from: float = 0
    unlikely_to: float = 0
    instead: str = ""


def _time(check: Check) -> Option:
    return Option(check, _float, "seconds", 1000, 600_000, "were milliseconds meant?")


def _size(low: int) -> Option:
    return Option(_whole("bytes", low), _int)


#: In the order of the signature; ``api_key`` is apart, since a disabled client needs none.
OPTIONS: dict[str, Option] = {
    "base_url": Option(_url),
    "app_version": Option(_version),
    "flush_at": Option(_whole("records", 1), _int),
    "flush_interval": _time(_seconds(0, low_is_legal=False)),
    "max_queue_size": Option(
        _whole("records", 1),
        _int,
        "records",
        10_000_000,
        _LARGEST,
        "for bytes there is max_queue_bytes",
    ),
    "max_batch_size": Option(_whole("events", 1, MAX_BATCH_SIZE, clamp=MAX_BATCH_SIZE), _int),
    "max_retries": Option(_whole("retries", 0, 100), _int),
    "request_timeout": _time(_seconds(0, low_is_legal=False)),
    "disabled": Option(_flag),
    "debug": Option(_flag),
    "on_error": Option(_callback, _imported),
    "shutdown_timeout": _time(check_timeout),
    "max_event_bytes": _size(1024),
    "max_batch_bytes": _size(1024),
    "max_queue_bytes": _size(1024),
    "journal_dir": Option(_folder),
    "max_journal_bytes": _size(1024 * 1024),
    "before_send": Option(_callback, _imported),
    "redact": Option(_names),
    "broker_url": Option(_broker),
    "app": Option(_app),
}
