"""What the commands print where it can't be printed: few characters, no stream, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.programs import run_program
from whisperr import Whisperr, WhisperrError, explain
from whisperr.cli import _test_event
from whisperr.sandbox import Sandbox

DEADLINE = 120.0  # seconds for one command
NOWHERE = "http://127.0.0.1:9"  # nobody listens there
TEXT = "Größe \u2026 \u65e5\u672c"
CRASH = """
    import os, signal, sys
    from whisperr import Whisperr

    key, folder, text = sys.argv[1:]
    client = Whisperr(key, base_url="http://127.0.0.1:9", journal_dir=folder, max_retries=0)
    client.track("u1", "seen", {"text": text})
    client.track("u1", "seen", {"text": "x" * 100000})
    os.kill(os.getpid(), signal.SIGKILL)
"""

COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "help of doctor": ["doctor", "--help"],
    "help of journal": ["journal", "show", "--help"],
    "help of sandbox": ["sandbox", "--help"],
    "doctor": ["doctor", "--no-send"],
    "doctor in JSON": ["doctor", "--no-send", "--json"],
    "list": ["journal", "list"],
    "list in JSON": ["journal", "list", "--json"],
    "show": ["journal", "show"],
    "purge": ["journal", "purge"],
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a dead process has left: two events, one with text in many alphabets."""
    folder = tmp_path_factory.mktemp("dead") / "journal"
    arguments = ("wrk_x", folder, TEXT)
    run_program(CRASH, folder.parent, arguments=arguments, status=-signal.SIGKILL)
    return folder


def run(arguments: list[str], redirection: str = "", **environment: str) -> Any:
    """``python -m whisperr`` behind a shell, which can close a stream."""
    command = ["sh", "-c", f'exec "$0" -m whisperr "$@" {redirection}', sys.executable, *arguments]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WHISPERR_", "PYTHONIOENCODING", "PYTHONUTF8", "GUNICORN_"))
        and not name.lower().endswith(("_proxy", "_ca_bundle"))
    }
    return subprocess.run(
        command,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding(name: str, encoding: str, journal: Path) -> None:
    """Each command prints what the terminal has characters for, and ends as ever."""
    plain = run(COMMANDS[name], WHISPERR_JOURNAL_DIR=str(journal), PYTHONIOENCODING="utf-8")
    done = run(COMMANDS[name], WHISPERR_JOURNAL_DIR=str(journal), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (plain.returncode, b"")
    assert done.stdout.count(b"\n") == plain.stdout.count(b"\n") > 0


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "utf-16"])
def test_json_lines_are_utf_8(encoding: str, journal: Path) -> None:
    """A line of ``show`` is JSON in UTF-8, whatever the terminal is."""
    done = run(["journal", "show"], WHISPERR_JOURNAL_DIR=str(journal), PYTHONIOENCODING=encoding)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 2), done.stderr
    assert json.loads(lines[0])["track"]["properties"] == {"text": TEXT}
    assert TEXT.encode() in lines[0]


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
@pytest.mark.parametrize("name", COMMANDS)
def test_standard_output_takes_nothing(name: str, redirection: str, journal: Path) -> None:
    """A command that can't print says so in a sentence, and blames nothing else."""
    if redirection == "> /dev/full" and not os.path.exists("/dev/full"):
        pytest.fail("this system has no /dev/full")
    done = run(COMMANDS[name], redirection, WHISPERR_JOURNAL_DIR=str(journal))
    said = done.stderr.decode()
    assert "Traceback" not in said and "Exception ignored" not in said
    assert str(journal) not in said
    assert done.returncode == 1
    assert "standard output can't be written" in said and said.count("\n") == 1


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_a_mistake_is_said_all_the_same(redirection: str) -> None:
    """A wrong option is a usage error, with standard output or without."""
    done = run(["doctor", "--what"], redirection)
    assert done.returncode == 2 and b"unrecognized arguments: --what" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full", ">&- 2>&-"])
def test_standard_error_takes_nothing(redirection: str, tmp_path: Path) -> None:
    """A command that fails says nothing then, and answers its status."""
    done = run(["journal", "list", "--dir", str(tmp_path / "none")], redirection)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_a_sandbox_that_cannot_print_serves(redirection: str, tmp_path: Path) -> None:
    """It says its address on standard error, and serves until it is stopped."""
    ready = tmp_path / "ready"
    command = f'exec "$0" -m whisperr sandbox --ready-file "$1" {redirection}'
    server = subprocess.Popen(
        ["sh", "-c", command, sys.executable, str(ready)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not ready.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        url = ready.read_text().strip()
    finally:
        server.terminate()
        _, said = server.communicate(timeout=DEADLINE)
    assert server.returncode == 0
    assert said.decode().count("\n") == 1 and url in said.decode()
    assert b"standard output can't be written" in said


# --- the culprit


def culprit(url: str, key: str = "wrk_x", **environment: str) -> str:
    """What the doctor says of a test event that came to nothing."""
    done = run(
        ["doctor", "--json", "--timeout", "20"],
        WHISPERR_API_KEY=key,
        WHISPERR_BASE_URL=url,
        **environment,
    )
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    found = [f for f in findings if (f["about"], f["level"]) == (_test_event.ABOUT, "wrong")]
    return "\n".join(f"{f['what']} -> {f['change']}" for f in found)


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "socks5h://user:secret@127.0.0.1:9"])
def test_a_dead_socks_proxy(value: str) -> None:
    """The variable is named, with the package or not, and not the server."""
    said = culprit(NOWHERE, ALL_PROXY=value)
    assert "proxy in ALL_PROXY" in said and "secret" not in said
    assert "Nothing listens" not in said


def test_a_dead_http_proxy() -> None:
    """The variable is named, the lower case too."""
    assert "proxy in https_proxy" in culprit("https://127.0.0.1:9", https_proxy=NOWHERE)


@pytest.mark.parametrize(
    "value", ["http://", "http://user:secret@host:port", "foo://x", "http://[::1", "http:///x"]
)
def test_a_malformed_proxy(value: str) -> None:
    """The variable is named, and its value, which may hold a password, is not repeated."""
    said = culprit(NOWHERE, HTTP_PROXY=value)
    assert "The proxy in HTTP_PROXY is not the URL of a proxy" in said
    assert "secret" not in said and "can't be reached" not in said


def test_a_missing_file_of_authorities() -> None:
    """The variable that names it is named."""
    said = culprit("https://127.0.0.1:9", REQUESTS_CA_BUNDLE="/nowhere/ca.pem")
    assert "certificate authorities in REQUESTS_CA_BUNDLE is missing" in said


def test_the_host_rule_of_the_sandbox(server: Sandbox, key: str) -> None:
    """A sandbox that is addressed by a name which it does not know refuses the name, not the key."""
    url = server.url.replace("127.0.0.1", "127.1")
    said = culprit(url, key)
    assert "does not answer under this host name (status 403)" in said and "--allow-host" in said
    assert "rejected" not in said


def test_the_log_does_not_blame_the_key_for_the_host_rule(server: Sandbox, key: str) -> None:
    """The client's own report of such a 403 names the host name, in a sentence without data."""
    told: list[WhisperrError] = []
    url = server.url.replace("127.0.0.1", "127.1")
    client = Whisperr(key, base_url=url, max_retries=0, on_error=told.append)
    client.track("u1", "seen")
    assert not client.flush(DEADLINE)
    assert (told[0].type, told[0].status) == ("auth", 403)
    assert "does not answer under this host name" in told[0].message
    client.shutdown(0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<html><h1>Blocked</h1></html>", "Something before {url} refused the request"),
        ('{"error": "not from this country"}', "or this machine is not let in"),
        ('{"error": "no such key"}', "The key was rejected (status 403): the server is there"),
        ("", "The key was rejected (status 403): the server is there"),
    ],
)
def test_what_a_403_means(body: str, says: str) -> None:
    """It is the key's fault where nothing says otherwise."""
    error = WhisperrError("auth", "the key was rejected with status 403", 403, 1, body)
    assert says.format(url="http://h") in explain(error, "http://h")


def test_a_report_without_an_answer_is_explained() -> None:
    """Of refused calls and of the journal there is nothing more to say than their message."""
    gave_up = "delivery failed after retries (ConnectTimeout); 1 record kept for the next pass"
    said = explain(WhisperrError("retry_exhausted", gave_up))
    assert "something drops the packets" in said
    refused = WhisperrError("dropped", "refused a call: no user", None, 1, "ada@example.org")
    assert explain(refused) == "refused a call: no user"
