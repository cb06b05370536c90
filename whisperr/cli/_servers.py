"""The doctor looks at the configuration of gunicorn and of uWSGI."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from whisperr.cli._findings import Finding, advice, ok, wrong
from whisperr.cli._probing import probe
from whisperr.cli._versions import installed, release

HOOKS = (
    "from whisperr.integrations.gunicorn import "
    "post_fork, post_worker_init, worker_abort, worker_exit"
)
VERSION_TIMEOUT = 5.0  # seconds
LEAST_GRACE = 7.0  # seconds: 2 of our worker_exit and 5 of shutdown_timeout

_GUNICORN_FILE = Path("gunicorn.conf.py")
_UWSGI_FILE = Path("uwsgi.ini")
_WARNS = (3, 12)  # from this Python on a fork beside a thread is a DeprecationWarning
_ENOUGH_THREADS = (2, 0, 30)  # from this uWSGI on threads run without enable-threads
_FALSE = {"", "0", "false", "no", "off"}


class Servers:
    """What was found, for the examination of the application."""

    def __init__(self) -> None:
        self.preloads = False  # the application is imported before the fork


def gunicorn(arguments: str | None, timeout: float, servers: Servers) -> Iterator[Finding]:
    """As gunicorn reads it: its file, GUNICORN_CMD_ARGS, then ``arguments``.

    Raises ValueError when the arguments are no command line.
    """
    try:
        given = [] if arguments is None else shlex.split(arguments)
    except ValueError as error:
        raise ValueError(f"--gunicorn: {error}") from None
    if given and Path(given[0]).name == "gunicorn":
        del given[0]
    looked_for = given or _GUNICORN_FILE.exists() or os.environ.get("GUNICORN_CMD_ARGS")
    if not looked_for:
        return
    if installed("gunicorn") is None:
        yield wrong("gunicorn", "It is configured, and not installed.", "pip install gunicorn")
        return
    found, problem = probe("_probe_gunicorn", given, timeout)
    if problem:
        yield wrong(
            "gunicorn",
            f"Its configuration can't be read: {problem}",
            "Correct it; `gunicorn --check-config` says the same.",
        )
        return
    servers.preloads = bool(found["preload_app"])
    yield from gunicorn_settings(found, sys.version_info[:2])


def gunicorn_settings(found: Mapping[str, Any], python: tuple[int, ...]) -> Iterator[Finding]:
    """Of a configuration that was read."""
    kind, preloads = str(found["worker_class"]), bool(found["preload_app"])
    yield ok("gunicorn", f"worker class {kind}, {'' if preloads else 'no '}preload")
    hooked = not str(found["hooks"]["post_worker_init"]).startswith("gunicorn.")
    if "UvicornWorker" in kind and not hooked:
        yield wrong(
            "gunicorn",
            "UvicornWorker runs no exit handler at SIGTERM: each worker loses what it has queued.",
            f"In gunicorn.conf.py: {HOOKS}",
        )
    elif not hooked:
        yield advice(
            "gunicorn",
            "Without our hooks a worker that hangs and is aborted delivers nothing, and the first "
            "event of a worker starts the sender.",
            f"In gunicorn.conf.py: {HOOKS}",
        )
    if float(found["graceful_timeout"]) < LEAST_GRACE:
        yield wrong(
            "gunicorn",
            f"graceful_timeout is {found['graceful_timeout']} s: a worker whose ingestion server "
            f"hangs needs {LEAST_GRACE:g} s to give up in order, and is killed before.",
            "Raise graceful_timeout, or lower shutdown_timeout of the client.",
        )
    if found.get("control_socket_disable") is False and python >= _WARNS:
        yield advice(
            "gunicorn",
            "Its control socket is a thread in the master: Python warns at each fork, whether "
            "the application has threads or not.",
            "gunicorn --no-control-socket, unless you use it.",
        )
    if preloads and "gevent" in kind:
        yield advice(
            "gunicorn",
            "gevent patches in the worker, when the preloaded application has imported ssl. "
            "whisperr copes with that; other HTTPS clients may recurse without end.",
            "`from gevent import monkey; monkey.patch_all()` at the top of gunicorn.conf.py.",
        )


def uwsgi(given: str | None, servers: Servers) -> Iterator[Finding]:
    """Of its ini file. Raises ValueError when a file that was named can't be read."""
    path = _UWSGI_FILE if given is None else Path(given)
    if given is None and not path.exists():
        return
    try:
        options = uwsgi_options(path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        if given is not None:
            raise ValueError(f"--uwsgi {path}: {' '.join(str(error).split())}") from None
        yield advice("uWSGI", f"{path} can't be read: {type(error).__name__}", "--uwsgi FILE")
        return
    servers.preloads = servers.preloads or not _on(options, "lazy-apps", "lazy")
    version = installed("uWSGI") or installed("pyuwsgi") or _command_version()
    yield from uwsgi_settings(options, version, sys.version_info[:2])


def _command_version() -> str | None:
    """Of a uWSGI that came with the system."""
    command = shutil.which("uwsgi")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.decode(errors="replace").strip()
    return version if release(version) else None


def uwsgi_options(path: Path) -> dict[str, str]:
    """The section [uwsgi], with ``_`` as ``-``. Of a repeated option the last one stays."""
    parser = configparser.RawConfigParser(
        strict=False, allow_no_value=True, delimiters=("=",), inline_comment_prefixes=None
    )
    parser.read_string(path.read_text(encoding="utf-8"))
    if not parser.has_section("uwsgi"):
        raise configparser.NoSectionError("uwsgi")
    return {
        name.replace("_", "-"): "true" if value is None else value.strip()
        for name, value in parser.items("uwsgi")
    }


def uwsgi_settings(
    options: Mapping[str, str], version: str | None, python: tuple[int, ...]
) -> Iterator[Finding]:
    """Of a configuration that was read."""
    about = "uWSGI"
    yield ok(about, f"version {version or 'not known: it is not installed here'}")
    threads = _on(options, "enable-threads", "threads", "gthreads")
    old = version is not None and release(version) < _ENOUGH_THREADS
    if old and not threads:
        yield wrong(
            about,
            f"uWSGI {version} without enable-threads runs the sender only while a request runs.",
            "enable-threads = true, or uWSGI 2.0.30.",
        )
    elif version is None and not threads:
        yield advice(
            about,
            "Before uWSGI 2.0.30 the sender needs enable-threads.",
            "enable-threads = true does no harm in later ones.",
        )
    if _several(options) and not _on(options, "master", "M"):
        yield wrong(
            about,
            "Several processes without a master: SIGTERM ends the first one alone, the others live "
            "on with their events.",
            "master = true",
        )
    yield from _uwsgi_ends(options)
    if _on(options, "py-call-osafterfork") and python >= (3, 13):
        yield wrong(
            about,
            "py-call-osafterfork kills the workers on Python 3.13, with any application.",
            "Remove it. whisperr needs no hook; if others do, py-call-uwsgi-fork-hooks.",
        )
    for name in ("async", "gevent", "skip-atexit"):
        if _on(options, name):
            yield wrong(
                about,
                f"With {name} uWSGI runs no exit handler: a worker loses what it has queued.",
                "flush() in the application, or a short flush_interval.",
            )
    if _on(options, "harakiri"):
        yield advice(
            about,
            "harakiri kills a worker without any code: it loses what it has queued.",
            "flush_interval=0.5 bounds that to about a second.",
        )


def _uwsgi_ends(options: Mapping[str, str]) -> Iterator[Finding]:
    graceful = "gracefully_kill_them_all" in options.get("hook-master-start", "")
    if graceful:
        return
    if _on(options, "die-on-term"):
        yield wrong(
            "uWSGI",
            "die-on-term: at SIGTERM a worker that is busy dies within its request, without any "
            "exit handler.",
            "Instead of it: hook-master-start = unix_signal:15 gracefully_kill_them_all",
        )
    else:
        yield wrong(
            "uWSGI",
            "SIGTERM reloads uWSGI instead of stopping it; what then kills it loses events.",
            "hook-master-start = unix_signal:15 gracefully_kill_them_all",
        )


def _on(options: Mapping[str, str], *names: str) -> bool:
    return any(options.get(name, "").lower() not in _FALSE for name in names)


def _several(options: Mapping[str, str]) -> bool:
    counts: Sequence[str] = [options.get(name, "1") for name in ("processes", "workers", "p")]
    return any(not count.isdigit() or int(count) > 1 for count in counts)
