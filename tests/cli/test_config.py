"""``whisperr config``: what holds, and where it is from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.deadlines import DEADLINE
from whisperr._settings import OPTIONS

KEY = "wrk_0123456789abcdefWXYZ"


def config(
    folder: Path, *arguments: str, status: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "whisperr", "config", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == status, done
    assert "0123456789" not in done.stdout + done.stderr
    return done


def test_it_shows_every_option_and_its_source(tmp_path: Path) -> None:
    """With the key masked; a slip and an unlikely unit are told, and are no failure."""
    given = {
        "WHISPERR_API_KEY": KEY,
        "WHISPERR_FLUSH_INTERVAL": "5000",
        "WHISPERR_FLSH_AT": "1",
        "WHISPERR_ON_ERROR": "operator:itemgetter",
    }
    lines = config(tmp_path, status=0, **given).stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-2]}
    assert list(rows) == ["api_key", *OPTIONS]
    assert rows["api_key"] == ["wrk_...WXYZ", "WHISPERR_API_KEY"]
    assert rows["flush_interval"] == ["5000.0", "WHISPERR_FLUSH_INTERVAL"]
    assert rows["on_error"] == ["itemgetter", "WHISPERR_ON_ERROR"]
    assert rows["journal_dir"] == ["none", "default"]
    assert lines[-2:] == [
        "whisperr: WHISPERR_FLSH_AT is no option of whisperr: is WHISPERR_FLUSH_AT meant?",
        "whisperr: flush_interval is 5000 seconds: were milliseconds meant?",
    ]


def test_what_can_not_be_used_is_a_failure(tmp_path: Path) -> None:
    """Every one of them is told at once, as JSON too."""
    given = {"WHISPERR_DISABLED": "maybe", "WHISPERR_FLUSH_AT": "x"}
    said: dict[str, Any] = json.loads(config(tmp_path, "--json", status=1, **given).stdout)
    assert [problem.split()[0] for problem in said["problems"]] == [
        "api_key",
        "WHISPERR_FLUSH_AT",
        "WHISPERR_DISABLED",
    ]
    assert said["options"]["flush_at"] == {"value": "unusable", "from": "WHISPERR_FLUSH_AT"}
    assert said["options"]["max_retries"] == {"value": 6, "from": "default"}
    disabled = config(tmp_path, status=0, WHISPERR_DISABLED="true")  # needs no key
    assert "whisperr:" not in disabled.stdout


def test_a_broker_is_shown_without_its_password(tmp_path: Path) -> None:
    """With a broker and an app no key is missing; keys of a relay are no slips."""
    given = {
        "WHISPERR_BROKER_URL": "redis://user:0123456789@127.0.0.1:9/2",
        "WHISPERR_APP": "shop",
        "WHISPERR_KEY_BLOG": KEY,
    }
    lines = config(tmp_path, status=0, **given).stdout.splitlines()
    assert lines[-1].split() == ["app", "shop", "WHISPERR_APP"]
    assert lines[-2].split() == ["broker_url", "redis://127.0.0.1:9/2", "WHISPERR_BROKER_URL"]


def test_under_django_the_settings_go_first(tmp_path: Path) -> None:
    """What they leave out is the environment's."""
    tmp_path.joinpath("of_a_site.py").write_text(
        f"WHISPERR_API_KEY = {KEY!r}\nWHISPERR_FLUSH_AT = 5"
    )
    given = {
        "DJANGO_SETTINGS_MODULE": "of_a_site",
        "WHISPERR_FLUSH_AT": "6",
        "WHISPERR_MAX_RETRIES": "2",
    }
    options = json.loads(config(tmp_path, "--json", status=0, **given).stdout)["options"]
    assert options["flush_at"] == {"value": 5, "from": "setting"}
    assert options["max_retries"] == {"value": 2, "from": "WHISPERR_MAX_RETRIES"}
    assert options["api_key"]["from"] == "setting"
    given["DJANGO_SETTINGS_MODULE"] = "no_such_site"
    said = config(tmp_path, status=1, **given).stdout
    assert "whisperr: Django's settings can't be read" in said
