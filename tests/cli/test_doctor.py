"""``whisperr doctor``: what it finds, in real processes and against a server that misbehaves."""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from support.deadlines import generous
from support.tls import https_before
from whisperr import _atomic
from whisperr._delivery.outcome import Outcome, Reply
from whisperr.cli import _journal_folder, _servers, _test_event, _versions
from whisperr.sandbox import Sandbox

TIMEOUT = generous(50.0)  # seconds for one run
PATIENT = "60"  # seconds, as --timeout: for what does come, on a busy machine
SOON = generous(20.0)  # seconds within which a run with --timeout 1 must end


class Doctor:
    """``python -m whisperr doctor`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WHISPERR_", "GUNICORN_", "DJANGO_", "PYTEST_"))
        }

    def write(self, name: str, source: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(source))

    def run(
        self, *arguments: str, status: int, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "whisperr", "doctor", *arguments],
            cwd=str(self.folder),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def findings(self, *arguments: str, status: int, **environment: str) -> list[dict[str, Any]]:
        said = json.loads(self.run("--json", *arguments, status=status, **environment).stdout)
        assert said["status"] == status
        return list(said["findings"])


def about(findings: list[dict[str, Any]], subject: str, level: str | None = None) -> str:
    """All that is said of one subject, on one line each."""
    chosen = [f for f in findings if f["about"] == subject and level in (None, f["level"])]
    return "\n".join(f"{f['level']}: {f['what']} -> {f['change']}" for f in chosen)


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


# --- as a whole


def test_a_sound_environment(doctor: Doctor, server: Sandbox, key: str) -> None:
    """Status 0, the test event has arrived, and only it."""
    done = doctor.run("--base-url", server.url, status=0, WHISPERR_API_KEY=key)
    assert "Nothing is wrong" in done.stdout and f"accepted by {server.url}" in done.stdout
    (event,) = server.events(key)
    assert (event["event_type"], event["external_user_id"]) == ("whisperr_doctor",) * 2
    assert event["context"]["$message_id"] in done.stdout
    assert done.stderr == ""


def test_without_a_key_nothing_is_sent(doctor: Doctor, server: Sandbox) -> None:
    """That is advice, and makes a difference with --strict alone."""
    findings = doctor.findings("--base-url", server.url, status=0)
    assert "advice: None was sent: WHISPERR_API_KEY is not set" in about(findings, "test event")
    doctor.run("--base-url", server.url, "--strict", status=1)


def test_no_send(doctor: Doctor, server: Sandbox, key: str) -> None:
    """--no-send sends nothing, with a key, too."""
    doctor.run("--no-send", "--base-url", server.url, status=0, WHISPERR_API_KEY=key)
    assert server.ledger(key)["connections"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base-url", "ftp://x"], "--base-url must be an http:// or https:// URL"),
        (["--timeout", "0"], "--timeout: must be more than 0"),
        (["--timeout", "soon"], "--timeout: must be a number of seconds"),
        (["--app", "no-module"], "--app: 'no-module' is no module"),
        (["--uwsgi", "missing.ini"], "--uwsgi missing.ini"),
        (["--gunicorn", "gunicorn '"], "--gunicorn: No closing quotation"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_bad_usage(doctor: Doctor, arguments: list[str], says: str) -> None:
    """Status 2, one sentence that names the option, and no traceback."""
    done = doctor.run(*arguments, status=2)
    assert says in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


# --- the test event


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"do": "status", "status": 401}, "The key was rejected (status 401)"),
        ({"do": "status", "status": 403}, "The key was rejected (status 403)"),
        ({"do": "status", "status": 429}, "can't take events now (status 429)"),
        ({"do": "status", "status": 500}, "can't take events now (status 500)"),
        ({"do": "status", "status": 410}, "refused the request for good (status 410)"),
        ({"do": "status", "status": 404}, "Something else than the ingestion API answers"),
        ({"do": "status", "status": 302, "headers": {"Location": "/x"}}, "redirects (status 302)"),
        ({"do": "status", "status": 413}, "refused the event (status 413)"),
        (
            {"do": "status", "status": 400, "body": "events[0].occurred_at: more than 5 minutes"},
            "Set the clock of this machine",
        ),
        ({"do": "hang"}, "has not answered within 1 s"),
        ({"do": "reset"}, "closed the connection without an answer"),
        ({"do": "close"}, "closed the connection without an answer"),
    ],
    ids=lambda value: value["do"] + str(value.get("status", "")) if isinstance(value, dict) else "",
)
def test_faults(
    doctor: Doctor, server: Sandbox, key: str, fault: dict[str, Any], says: str
) -> None:
    """Each way to fail has words of its own, status 1, one request, and an end."""
    server.inject(key, fault)
    seconds = "1" if fault == {"do": "hang"} else PATIENT
    findings = doctor.findings(
        "--base-url", server.url, "--timeout", seconds, status=1, WHISPERR_API_KEY=key
    )
    assert says in about(findings, "test event", "wrong")
    assert all(f["change"] for f in findings if f["level"] == "wrong")
    assert len(server.requests(key)) == 1


def test_connection_refused(doctor: Doctor) -> None:
    """Nothing listens there; WHISPERR_BASE_URL names the server as --base-url does."""
    with socket.socket() as bound:  # and not listening: nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        findings = doctor.findings(status=1, WHISPERR_API_KEY="wrk_x", WHISPERR_BASE_URL=url)
    assert f"Nothing listens at {url}" in about(findings, "test event", "wrong")


def test_tls(doctor: Doctor, server: Sandbox, key: str, tmp_path: Path) -> None:
    """A certificate that is not trusted; the same, trusted; plain HTTP where TLS was expected."""
    with https_before(server.url, tmp_path) as (url, pem):
        findings = doctor.findings("--base-url", url, status=1, WHISPERR_API_KEY=key)
        assert f"The certificate of {url} is not trusted" in about(findings, "test event")
        trusted = {"WHISPERR_API_KEY": key, "REQUESTS_CA_BUNDLE": str(pem)}
        doctor.run("--base-url", url, status=0, **trusted)
    plain = server.url.replace("http:", "https:")
    findings = doctor.findings("--base-url", plain, status=1, **trusted)
    said = about(findings, "test event")
    assert "is there plain HTTP, perhaps?" in said
    assert "advice: The environment has REQUESTS_CA_BUNDLE" in said


def test_the_key_is_never_printed(doctor: Doctor, server: Sandbox, key: str) -> None:
    """Not even when the server repeats it, in text or in JSON; nor an unusable one."""
    for arguments in ([], ["--json"]):
        server.inject(key, {"do": "status", "status": 400, "body": f"no such key: {key}"})
        done = doctor.run("--base-url", server.url, *arguments, status=1, WHISPERR_API_KEY=key)
        assert "no such key: <key>" in done.stdout
        assert key not in done.stdout + done.stderr
    done = doctor.run(status=1, WHISPERR_API_KEY="wrk_bad\nkey")
    assert "WHISPERR_API_KEY is not a legal header value" in done.stdout
    assert "wrk_bad" not in done.stdout + done.stderr


def test_any_terminal(doctor: Doctor, server: Sandbox, key: str) -> None:
    """What the server says is shown as far as the terminal has the characters."""
    server.inject(key, {"do": "status", "status": 400, "body": "zu gro\u00df"})
    ascii_only = {"WHISPERR_API_KEY": key, "PYTHONIOENCODING": "ascii"}
    done = doctor.run("--base-url", server.url, status=1, **ascii_only)
    assert "zu gro?" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "detail", "says"),
    [
        ("ProxyError", "Cannot connect to proxy", "The proxy between"),
        ("ConnectTimeout", "timed out", "No connection to http://h within 3 s"),
        ("ConnectionError", "[Errno -2] Name or service not known", "has no address"),
        ("ConnectionError", "something new", "can't be reached (ConnectionError)"),
    ],
)
def test_what_loopback_cannot_do(error: str, detail: str, says: str) -> None:
    """Proxies, packets that are dropped and names without an address have their words, too."""
    settings = _test_event.settings_for("wrk_x", "http://h", 3.0)
    what, change, _ = _test_event._explain(Reply(Outcome.RETRY, None, detail, error), settings)
    assert says in what and change


# --- interpreter and versions


def test_interpreters() -> None:
    """One that is not tested and one that is no longer maintained are advice, in words."""
    day, tested = datetime.date(2026, 11, 1), ((3, 8), (3, 13))
    said = [f.level for f in _versions.interpreter((3, 13, 1), tested, day)]
    assert said == ["ok"]
    (old,) = [f for f in _versions.interpreter((3, 8), tested, day) if f.level != "ok"]
    assert "no security fixes since 10/2024" in old.what
    (new,) = _versions.interpreter((3, 15), tested, day)
    assert new.level == "advice" and "not tested on 3.15" in new.what and "Use 3.13" in new.change
    assert [f.level for f in _versions.interpreter((3, 8), (), datetime.date(2024, 10, 31))] == [
        "ok"
    ]


def test_how_multiprocessing_starts_children() -> None:
    """A word where its default imports the main module once more."""
    assert [f.level for f in _versions.children("forkserver")] == ["ok"]
    assert not [*_versions.children("fork"), *_versions.children("spawn")]


@pytest.mark.parametrize("holds", [True, False])
def test_an_interpreter_without_a_lock(monkeypatch: pytest.MonkeyPatch, holds: bool) -> None:
    """Wrong is only one in which what the queue relies on does not hold."""
    monkeypatch.setattr(_atomic, "HOLDS", holds)
    found = [f for f in _versions.examine() if f.level == "WRONG" and f.about == "Python"]
    assert len(found) == (not holds), found


def test_packages() -> None:
    """A version outside of what our metadata ask for is wrong; a longer number is no trap."""
    limits = [(">=", (2, 0)), ("<", (3,))]
    assert _versions.package("urllib3", "2.10.1", limits).level == "ok"
    for version in ("1.26.20", "3.0.0"):
        finding = _versions.package("urllib3", version, limits)
        assert finding.level == "WRONG" and "urllib3>=2.0,<3" in finding.change
    assert _versions.release("2.0.30.post1") == (2, 0, 30)
    assert _versions.release("unknown") == ()


# --- servers


def test_gunicorn_file_environment_and_command(doctor: Doctor) -> None:
    """All three are read as gunicorn reads them, by gunicorn itself; the last one wins."""
    doctor.write("gunicorn.conf.py", "graceful_timeout = 3\nworker_class = 'gthread'\n")
    said = about(doctor.findings(status=1), "gunicorn")
    assert "worker class gthread, no preload" in said and "graceful_timeout is 3 s" in said
    said = about(
        doctor.findings(status=0, GUNICORN_CMD_ARGS="--graceful-timeout 30 --preload"), "gunicorn"
    )
    assert "worker class gthread, preload" in said and "graceful_timeout" not in said
    said = about(
        doctor.findings("--gunicorn", "gunicorn --graceful-timeout 2 app:app", status=1), "gunicorn"
    )
    assert "graceful_timeout is 2 s" in said


def test_gunicorn_hooks(doctor: Doctor) -> None:
    """UvicornWorker without our hooks loses events; with them there is nothing to say."""
    doctor.write("gunicorn.conf.py", "worker_class = 'uvicorn_worker.UvicornWorker'\n")
    said = about(doctor.findings(status=1), "gunicorn", "wrong")
    assert "UvicornWorker runs no exit handler" in said and _servers.HOOKS in said
    doctor.write(
        "gunicorn.conf.py", f"{_servers.HOOKS}\nworker_class = 'uvicorn_worker.UvicornWorker'\n"
    )
    assert "hooks" not in about(doctor.findings(status=0), "gunicorn")


def test_a_broken_gunicorn_file(doctor: Doctor) -> None:
    """It is said, with gunicorn's own words, and the rest of the examination goes on."""
    doctor.write("gunicorn.conf.py", "workers = 1 / 0\n")
    findings = doctor.findings(status=1)
    assert "ZeroDivisionError" in about(findings, "gunicorn", "wrong")
    assert about(findings, "test event")


def test_gunicorn_control_socket_and_gevent() -> None:
    """A thread of gunicorn's own, from its version with a control socket on and Python 3.12."""
    found: dict[str, Any] = {
        "worker_class": "gevent",
        "preload_app": True,
        "graceful_timeout": 30,
        "control_socket_disable": False,
        "hooks": {"post_worker_init": "whisperr.integrations.gunicorn"},
    }
    said = [f.what for f in _servers.gunicorn_settings(found, (3, 12)) if f.level == "advice"]
    assert len(said) == 2 and "control socket" in said[0] and "gevent patches" in said[1]
    assert len(list(_servers.gunicorn_settings(found, (3, 11)))) == 2
    found.update(control_socket_disable=True, preload_app=False)
    assert [f.level for f in _servers.gunicorn_settings(found, (3, 12))] == ["ok"]


@pytest.mark.parametrize(
    ("ini", "says"),
    [
        ("master = true", "SIGTERM reloads uWSGI"),
        ("die-on-term = 1\nmaster = true", "die-on-term: at SIGTERM a worker that is busy dies"),
        ("processes = 4", "without a master"),
        ("workers = %k\nmaster = false", "without a master"),
        ("async = 10", "With async uWSGI runs no exit handler"),
        ("skip-atexit", "With skip-atexit uWSGI runs no exit handler"),
        ("harakiri = 30", "harakiri kills a worker"),
        ("py_call_osafterfork = true", "py-call-osafterfork kills the workers"),
    ],
)
def test_uwsgi_settings(tmp_path: Path, ini: str, says: str) -> None:
    """Each setting that is known to hurt is named; the reader takes uWSGI's kind of file."""
    path = tmp_path / "uwsgi.ini"
    path.write_text(f"; a comment\n[uwsgi]\nmodule = a:%n\nenv = A=1\nenv = B=2\n{ini}\n")
    findings = list(_servers.uwsgi_settings(_servers.uwsgi_options(path), "2.0.30", (3, 13)))
    assert says in "\n".join(finding.what for finding in findings if finding.level != "ok")


def test_a_sound_uwsgi(doctor: Doctor) -> None:
    """Nothing to say of what docs/how-to/uwsgi.md recommends; threads before 2.0.30 need their option."""
    doctor.write(
        "site.ini",
        """
        [uwsgi]
        master = true
        processes = 4
        enable-threads = true
        hook-master-start = unix_signal:15 gracefully_kill_them_all
        """,
    )
    said = about(doctor.findings("--uwsgi", "site.ini", status=0), "uWSGI")
    assert said.startswith("ok: version") and "\n" not in said
    options = {"hook-master-start": "unix_signal:15 gracefully_kill_them_all"}
    (_, finding) = _servers.uwsgi_settings(options, "2.0.21", (3, 11))
    assert finding.level == "WRONG" and "without enable-threads" in finding.what


# --- the application


def test_an_application_without_fault(doctor: Doctor) -> None:
    """Its client is shown, and that it may be forked."""
    doctor.write(
        "app.py",
        """
        from whisperr import Whisperr
        print("noise")
        client = Whisperr("wrk_x", base_url="http://127.0.0.1:9")
        """,
    )
    said = about(doctor.findings("--app", "app:client.track", status=0), "application")
    assert "makes a client for http://127.0.0.1:9" in said
    assert "one thread after the import" in said


def test_threads_before_a_fork(doctor: Doctor) -> None:
    """A thread that is there after the import is advice, and wrong under a server that preloads."""
    doctor.write(
        "app.py",
        """
        import threading
        from whisperr import Whisperr
        threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
        client = Whisperr("wrk_x", base_url="http://127.0.0.1:9", flush_at=1000)
        client.track("u", "imported")
        """,
    )
    said = about(doctor.findings("--app", "app", status=0), "application", "advice")
    assert "Threads run after the import (poller)" in said
    assert "Events tracked while it is imported: 1" in said and "sender's thread runs" in said
    preload = ["--gunicorn", "gunicorn --preload app:app"]
    said = about(doctor.findings("--app", "app", *preload, status=1), "application", "wrong")
    assert "(poller)" in said and "Your server forks it so" in said


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import missing_dependency", "ModuleNotFoundError: No module named 'missing_dependency'"),
        ("x = 1 / 0", "app.py:1"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(7)", "ends with status 7"),
        ("import threading; threading.Event().wait()", "it is not done after 1 s"),
    ],
)
def test_an_application_that_cannot_be_imported(doctor: Doctor, source: str, says: str) -> None:
    """It raises, exits or hangs: the doctor says so, within its time-out, and goes on."""
    doctor.write("app.py", source)
    seconds = "1" if "is not done after 1 s" in says else PATIENT
    findings = doctor.findings("--app", "app", "--timeout", seconds, status=1)
    assert says in about(findings, "application", "wrong")
    assert about(findings, "test event")


def test_patch_order(doctor: Doctor) -> None:
    """gevent that patches after requests was imported is wrong; at the top it is right."""
    patch = "from gevent import monkey; monkey.patch_all()"
    doctor.write("late.py", f"import requests\n{patch}\n")
    doctor.write("early.py", f"{patch}\nimport requests\n")
    doctor.write(
        "threaded.py",
        f"import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{patch}\n",
    )
    said = about(doctor.findings("--app", "late", status=1), "gevent", "wrong")
    assert "after the import of requests, urllib3" in said
    assert about(doctor.findings("--app", "early", status=0), "gevent").startswith("ok: ")
    said = about(doctor.findings("--app", "threaded", status=1), "gevent", "wrong")
    assert "2 threads ran already when it patched" in said


def test_celery(doctor: Doctor) -> None:
    """A pool without our signals, and a hard time limit with a slow sender, lose events."""
    source = """
        from celery import Celery
        from whisperr import Whisperr
        {more}
        app = Celery("tasks")
        app.conf.task_time_limit = 30
        client = Whisperr("wrk_x", base_url="http://127.0.0.1:9", flush_interval={interval})
        """
    doctor.write("tasks.py", source.format(more="", interval=10))
    said = about(doctor.findings("--app", "tasks:app", status=1), "Celery", "wrong")
    assert "run no exit handler" in said and "task_time_limit is 30 s" in said
    doctor.write(
        "tasks.py", source.format(more="import whisperr.integrations.celery", interval=0.5)
    )
    said = about(doctor.findings("--app", "tasks:app", status=0), "Celery")
    assert said.startswith("ok: ") and "\n" not in said


def test_rq(doctor: Doctor) -> None:
    """An application of rq is told which class its workers want; who imports ours knows."""
    doctor.write("jobs.py", "import rq\n")
    said = about(doctor.findings("--app", "jobs", status=0), "rq", "advice")
    assert "rq worker -w whisperr.integrations.rq.Worker" in said
    doctor.write("jobs.py", "import whisperr.integrations.rq\n")
    assert about(doctor.findings("--app", "jobs", status=0), "rq").startswith("ok: ")


def test_django_checks(doctor: Doctor) -> None:
    """The system checks of whisperr speak through the doctor, too."""
    doctor.write(
        "site_settings.py", "SECRET_KEY = 'x'\nWHISPERR_FLUSH_ATT = 3\nWHISPERR_DISABLED = True\n"
    )
    doctor.write(
        "wsgi.py",
        """
        import os
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        import whisperr.django
        from django.core.wsgi import get_wsgi_application
        application = get_wsgi_application()
        """,
    )
    said = about(doctor.findings("--app", "wsgi:application", status=1), "Django", "wrong")
    assert "WHISPERR_FLUSH_ATT is no setting" in said and "Is WHISPERR_FLUSH_AT meant?" in said


# --- the folder of a journal


def test_a_good_folder(doctor: Doctor) -> None:
    """Ours, 0700, with room, on a file system that has a name; by option or environment."""
    folder = doctor.folder / "journal"
    folder.mkdir(mode=0o700)
    said = about(doctor.findings("--journal-dir", "journal", status=0), "journal folder")
    assert "ours alone, mode 0700" in said and "MiB are free" in said and "file system" in said
    said = about(doctor.findings(status=0, WHISPERR_JOURNAL_DIR="journal"), "journal folder")
    assert "ours alone, mode 0700" in said


def test_a_folder_that_will_do(doctor: Doctor) -> None:
    """Missing, where it can be made; or open to others, which is advised against."""
    (doctor.folder / "open").mkdir()
    (doctor.folder / "open").chmod(0o755)
    findings = doctor.findings("--journal-dir", "new/missing", status=0)
    assert "missing does not exist yet; the first event makes it" in about(
        findings, "journal folder"
    )
    findings = doctor.findings("--journal-dir", "open", status=0)
    said = about(findings, "journal folder", "advice")
    assert "has the mode 0755: others see" in said and "-> chmod 700 open" in said


def test_a_folder_that_everybody_shares(doctor: Doctor) -> None:
    """Such as /tmp: another is advised, and never a chmod of it."""
    (doctor.folder / "shared").mkdir()
    (doctor.folder / "shared").chmod(0o1777)
    said = about(doctor.findings("--journal-dir", "shared", status=1), "journal folder", "wrong")
    assert "shared by everybody" in said and "shared/whisperr" in said and "chmod" not in said


def test_bad_folders(doctor: Doctor) -> None:
    """A file, something below a file, a link: each is wrong, and says what to change."""
    (doctor.folder / "file").write_text("")
    (doctor.folder / "good").mkdir(mode=0o700)
    (doctor.folder / "link").symlink_to("good")
    for name, says in (
        ("file", "file is no folder"),
        ("file/below", "Not a directory"),
        ("link", "link is a symbolic link"),
    ):
        findings = doctor.findings("--journal-dir", name, status=1)
        assert says in about(findings, "journal folder", "wrong")


def test_someone_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to another user."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    (finding, *_) = _journal_folder.examine(str(tmp_path))
    assert finding.level == "WRONG" and "belongs to the user" in finding.what


def test_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deepest mount that holds the folder says; a network is wrong, memory is advice."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /a rw shared:3 - tmpfs tmpfs rw\n"
        "3 2 0:6 / /a/with\\040blank rw master:1 - nfs4 host:/x rw\n"
    )
    for path, kind in (
        ("/b", "ext4"),
        ("/a/x", "tmpfs"),
        ("/ab", "ext4"),
        ("/a/with blank/x", "nfs4"),
    ):
        assert _journal_folder.file_system(Path(path), mounts) == kind
    assert _journal_folder.file_system(Path("/b"), tmp_path / "none") is None
    for kind, level in (
        ("tmpfs", "advice"),
        ("overlay", "advice"),
        ("nfs4", "WRONG"),
        ("xfs", "ok"),
    ):
        monkeypatch.setattr(_journal_folder, "file_system", lambda path, kind=kind: kind)
        (finding,) = _journal_folder._file_system(tmp_path)
        assert finding.level == level and kind in finding.what


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than one process may need is wrong."""
    usage = type("usage", (), {"free": 1024 * 1024})
    monkeypatch.setattr(_journal_folder.shutil, "disk_usage", lambda path: usage)
    (finding,) = _journal_folder._space(tmp_path)
    assert finding.level == "WRONG" and "Only 1 MiB" in finding.what
