"""``whisperr sandbox``: serve until stopped.

Exits with 1 if it can't listen or can't use its file, 2 for an unusable option.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from whisperr import _console
from whisperr.sandbox import defaults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)"
    )
    parser.add_argument("--port", type=_port, default=0, help="0: any free port (%(default)s)")
    parser.add_argument(
        "--db", metavar="FILE", help="keep what arrives in this SQLite file (default: in memory)"
    )
    parser.add_argument(
        "--keep",
        type=int,
        default=defaults.KEEP,
        metavar="N",
        help="events kept; the oldest are deleted beyond that (%(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        type=_host_name,
        metavar="NAME",
        help="another host name under which it may be addressed; may be repeated",
    )
    parser.add_argument("--ready-file", type=Path, help="written with the URL once it listens")
    parser.add_argument(
        "--keep-alive",
        type=float,
        default=defaults.KEEP_ALIVE,
        metavar="SECONDS",
        help="idle time after which a connection is closed (%(default)s)",
    )
    parser.add_argument(
        "--read-timeout",
        type=float,
        default=defaults.READ_TIMEOUT,
        metavar="SECONDS",
        help="time for a request to come in (%(default)s)",
    )
    parser.add_argument(
        "--numbers",
        action="store_true",
        help="an application numbers its events in properties.n: count these, and each that comes twice",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="exit when standard input ends"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return int(text)


def _host_name(text: str) -> str:
    if not text or any(sign in text for sign in ":/@ "):
        raise argparse.ArgumentTypeError("must be a host name: no scheme, no port")
    return text


def run(options: argparse.Namespace) -> int:
    try:
        from whisperr import _serving
        from whisperr.sandbox.app import create_app
        from whisperr.sandbox.server import database, origin_guard, serving
    except ImportError as exc:
        return _failed(f"the sandbox needs the extra whisperr[sandbox]: {exc}")
    host = "127.0.0.1" if options.host.lower() == "localhost" else options.host.strip("[]")
    if not origin_guard.is_address(host):
        return _failed("--host: must be an IP address, or localhost", 2)
    if options.keep < 1:
        return _failed("--keep: must be 1 or more", 2)
    for name, seconds in (
        ("read-timeout", options.read_timeout),
        ("keep-alive", options.keep_alive),
    ):
        if not 0 < seconds < math.inf:
            return _failed(f"--{name}: must be more than 0", 2)
    if options.db in ("", ":memory:"):
        return _failed("--db: must be a file; without it, everything is in memory", 2)
    if options.ready_file is not None and not options.ready_file.absolute().parent.is_dir():
        return _failed(f"--ready-file: there is no folder {options.ready_file.parent}")
    try:
        listener = _serving.listen(host, options.port)
    except (OSError, OverflowError) as exc:
        return _failed(f"cannot listen on {options.host}:{options.port}: {exc}")
    try:
        opened = database.Database(options.db, options.keep)
    except database.DatabaseError as exc:
        listener.close()
        return _failed(f"--db: {exc}")
    url = _serving.url_of(listener)
    is_private = origin_guard.is_loopback(host)
    guard = origin_guard.OriginGuard(options.allow_host, everywhere=not is_private)

    def announce() -> None:
        _print_address(url)
        if not is_private:
            _say("listens to other machines: anyone who reaches it sees and changes everything")
        elif sys.stdout is not None and sys.stdout.isatty():
            _say("open that address in a browser; end with Ctrl-C")
        if options.ready_file is not None:
            _write_whole(options.ready_file, url + "\n")

    app = create_app(opened, guard, read_timeout=options.read_timeout, numbered=options.numbers)
    limits = serving.Limits(options.keep_alive, options.read_timeout)
    try:
        serving.serve(listener, app, limits, announce, options.exit_with_parent)
    finally:
        opened.close()
    return 0


def _print_address(url: str) -> None:
    """Where nothing can be printed, the server runs all the same: its port may be known."""
    try:
        _console.write(url)
        _console.flush()
    except _console.OutputError as error:
        _say(f"standard output can't be written ({error}); the address is {url}")


def _say(message: str) -> None:
    _console.complain("whisperr sandbox", message)


def _failed(message: str, status: int = 1) -> int:
    _say(message)
    return status


def _write_whole(path: Path, text: str) -> None:
    """Write a file that appears with all of its content at once."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
