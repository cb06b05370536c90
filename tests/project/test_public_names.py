"""What a user may import, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

import whisperr
from support.deadlines import generous
from whisperr import lifecycle


def run(code: str, folder: Path) -> str:
    """What a new interpreter prints for `code`, away from the checkout, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=generous(30),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def test_public_names() -> None:
    """The package exports these names, and no other."""
    expected = [
        "BillingEvent",
        "SDK_NAME",
        "Whisperr",
        "WhisperrError",
        "__version__",
        "configure",
        "explain",
        "flush",
        "identify",
        "snapshot",
        "track",
    ]
    assert sorted(whisperr.__all__) == expected


def test_nothing_else_looks_public() -> None:
    """A name without an underscore is in `__all__`, or it is a submodule."""
    leaked = {
        name
        for name, value in vars(whisperr).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert leaked - {"annotations"} <= set(whisperr.__all__)


@pytest.mark.parametrize("name", ["BillingEvent", "Whisperr", "WhisperrError"])
def test_classes_say_their_public_home(name: str) -> None:
    """Tracebacks, `repr` and pickles name `whisperr`, never a private module."""
    assert getattr(whisperr, name).__module__ == "whisperr"


def test_lifecycle_names() -> None:
    """`whisperr.lifecycle` exports these functions."""
    assert sorted(lifecycle.__all__) == [
        "aflush_all",
        "after_pass",
        "after_restore",
        "ashutdown_all",
        "deliver_on_signals",
        "flush_all",
        "shutdown_all",
        "start_all",
        "stats_all",
    ]
    assert all(callable(getattr(lifecycle, name)) for name in lifecycle.__all__)


def test_constants() -> None:
    """The name on the wire, and a version of three numbers."""
    assert whisperr.SDK_NAME == "whisperr-python"
    assert [part.isdigit() for part in whisperr.__version__.split(".")] == [True] * 3


@pytest.mark.parametrize(
    "then", ["", "whisperr.Whisperr(disabled=True)"], ids=["import", "disabled client"]
)
def test_http_is_not_imported(then: str, tmp_path: Path) -> None:
    """Importing, and a disabled client, load no HTTP stack and start no thread."""
    code = (
        f"import sys, threading, whisperr; {then}; "
        "print([m for m in ('requests', 'urllib3') if m in sys.modules], threading.active_count())"
    )
    assert run(code.replace("; ;", ";"), tmp_path) == "[] 1"


def test_http_is_imported_by_an_enabled_client(tmp_path: Path) -> None:
    """Nothing is left to import while sending, where a fork could catch the import lock."""
    code = (
        "import sys, whisperr; whisperr.Whisperr('wrk_test', base_url='http://127.0.0.1:9'); "
        "print([m for m in ('requests', 'urllib3') if m in sys.modules])"
    )
    assert run(code, tmp_path) == "['requests', 'urllib3']"
