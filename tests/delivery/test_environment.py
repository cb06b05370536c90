"""Options from the environment: what goes before what, and which words name the source."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest

from support import run_program
from whisperr import Whisperr, _settings
from whisperr._settings import OPTIONS, BrokerUrl, Settings

KEY = "wrk_of_the_environment"
# A text for each option, what it means, and one that it refuses.
TEXTS: dict[str, tuple[str, Any, str]] = {
    "base_url": ("http://127.0.0.1:9/x/", "http://127.0.0.1:9/x", "ftp://a"),
    "app_version": ("7", "7", "v" * 257),
    "flush_at": ("7", 7, "seven"),
    "flush_interval": ("0.25", 0.25, "10s"),
    "max_queue_size": (" 7 ", 7, "1e3"),
    "max_batch_size": ("501", 500, "0"),
    "max_retries": ("0", 0, "-1"),
    "request_timeout": ("3", 3.0, "nan"),
    "disabled": ("Yes", True, "maybe"),
    "debug": ("off", False, "debug"),
    "on_error": ("operator:itemgetter", None, "no_such_module:f"),
    "shutdown_timeout": ("0", 0.0, "-1"),
    "max_event_bytes": ("2048", 2048, "1 MiB"),
    "max_batch_bytes": ("2048", 2048, "1023"),
    "max_queue_bytes": ("2048", 2048, "2048.0"),
    "journal_dir": ("/tmp/journal", "/tmp/journal", "a\0b"),
    "max_journal_bytes": ("1048576", 1048576, "1048575"),
    "before_send": ("operator.itemgetter", None, "operator"),
    "redact": ("password, *token*", ("password", "*token*"), ""),
    "broker_url": ("redis://127.0.0.1:9", BrokerUrl("redis://127.0.0.1:9"), "http://127.0.0.1:9"),
    "app": ("shop", "shop", "My Shop"),
}
NEEDED = {"app": {"WHISPERR_BROKER_URL": "redis://127.0.0.1:9"}}  # beside it
UNITS = {
    **dict.fromkeys(("flush_interval", "request_timeout", "shutdown_timeout"), "seconds"),
    **{name: "bytes" for name in TEXTS if name.endswith("_bytes")},
    **dict.fromkeys(("flush_at", "max_queue_size"), "records"),
    **{"max_batch_size": "events", "max_retries": "retries"},
}


CALLBACKS = ("on_error", "before_send")


def variable(name: str) -> str:
    return f"WHISPERR_{name.upper()}"


def made(environment: dict[str, str], **given: Any) -> Settings:
    return _settings.make_settings(None, given, {variable("api_key"): KEY, **environment})


def test_every_option_has_a_text() -> None:
    """The table above knows each."""
    assert list(TEXTS) == list(OPTIONS)


@pytest.mark.parametrize("name", TEXTS)
def test_a_variable_goes_before_the_default_and_an_argument_before_it(name: str) -> None:
    """An empty variable is none. An argument that equals the default, or None, counts as given."""
    import operator

    text, meant, _ = TEXTS[name]
    default = getattr(Settings, name)
    expected = operator.itemgetter if name in CALLBACKS else meant
    others = NEEDED.get(name, {})
    assert getattr(made({**others, variable(name): text}), name) == expected
    assert getattr(made({**others, variable(name): ""}), name) == default
    assert getattr(made({**others, variable(name): text}, **{name: default}), name) == default


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "redact"])  # any text will do
def test_an_unusable_variable_is_named(name: str) -> None:
    """By its own name, with the source, the unit of a number, and not with its text."""
    refused = TEXTS[name][2]
    with pytest.raises(ValueError, match=rf"^{variable(name)} |can't be imported") as caught:
        made({variable(name): refused})
    said = str(caught.value)
    assert said.endswith("(from the environment)")
    assert UNITS.get(name, "") in said
    assert name not in ("base_url", "app_version") or refused not in said


def test_the_client_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key and the address, too; a pickle keeps what held where it was made."""
    monkeypatch.setenv(variable("api_key"), KEY)
    monkeypatch.setenv(variable("base_url"), "http://127.0.0.1:9/")
    client = Whisperr()
    assert client.base_url == "http://127.0.0.1:9"
    assert client._settings.key.reveal() == KEY
    assert Whisperr("")._settings.key.reveal() == KEY
    assert Whisperr("wrk_given")._settings.key.reveal() == "wrk_given"
    packed = pickle.dumps(client)
    monkeypatch.setenv(variable("base_url"), "http://127.0.0.1:10")
    assert pickle.loads(packed).base_url == "http://127.0.0.1:9"
    monkeypatch.setenv(variable("api_key"), "wrk_a\n")
    with pytest.raises(
        ValueError, match=r"^WHISPERR_API_KEY is not a legal header value"
    ) as caught:
        Whisperr()
    assert "wrk_a" not in str(caught.value)
    monkeypatch.delenv(variable("api_key"))
    with pytest.raises(ValueError, match=r"^api_key is required .* set WHISPERR_API_KEY$"):
        Whisperr()


@pytest.mark.parametrize(
    ("option", "unit"),
    [
        ({"flush_interval": 5000}, "milliseconds"),
        ({"request_timeout": 3000.0}, "milliseconds"),
        ({"shutdown_timeout": 1000}, "milliseconds"),
        ({"max_queue_size": 2**26}, "bytes"),
    ],
)
def test_an_unlikely_number_is_taken_and_told(
    option: dict[str, Any], unit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One WARNING, with the option, its unit, and the one that is probably meant."""
    client = Whisperr("wrk_k", **option)
    ((name, value),) = option.items()
    assert getattr(client._settings, name) == value
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"whisperr: {name} is {value:.0f} ")
    assert unit in record.getMessage() and UNITS[name] in record.getMessage()


def test_the_defaults_are_likely(caplog: pytest.LogCaptureFixture) -> None:
    """And a legal number below the limit, too; so is one that means never."""
    Whisperr("wrk_k")
    Whisperr("wrk_k", flush_interval=999, max_queue_size=1_000_000)
    Whisperr("wrk_k", flush_interval=1_000_000)  # never
    assert not caplog.records


def test_a_program_needs_no_argument(tmp_path: Path) -> None:
    """WHISPERR_DISABLED=false does not disable, and =1 does."""
    source = "from whisperr import Whisperr; print(Whisperr().ready)"
    for text, ready in (("false", "True"), ("1", "False")):
        environment = {variable("api_key"): KEY, variable("disabled"): text}
        assert run_program(source, tmp_path, environment=environment).stdout == f"{ready}\n"
