"""``whisperr sandbox``: serve until stopped. Exits with 1 if it can't listen, 2 for an unusable option."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="loopback address (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0: any free port (%(default)s)")
    parser.add_argument("--ready-file", type=Path, help="written with the URL once it listens")
    parser.add_argument(
        "--keep-alive",
        type=float,
        default=75.0,
        metavar="SECONDS",
        help="idle time after which a connection is closed (%(default)s)",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="exit when standard input ends"
    )


def run(options: argparse.Namespace) -> int:
    try:
        from whisperr.sandbox import _control, _serve
    except ImportError as exc:
        return _failed(f"the sandbox needs the extra whisperr[sandbox]: {exc}")
    if not _control.is_loopback(options.host):
        return _failed("--host: must be a loopback address", 2)
    host = "127.0.0.1" if options.host.lower() == "localhost" else options.host.strip("[]")
    try:
        listener = _serve.listen(host, options.port)
    except (OSError, OverflowError) as exc:
        return _failed(f"cannot listen on {options.host}:{options.port}: {exc}")
    url = _serve.url_of(listener)

    def announce() -> None:
        print(url, flush=True)
        if options.ready_file is not None:
            _write_whole(options.ready_file, url + "\n")

    _serve.serve(listener, options.keep_alive, announce, options.exit_with_parent)
    return 0


def _failed(message: str, status: int = 1) -> int:
    print(f"whisperr sandbox: {message}", file=sys.stderr)
    return status


def _write_whole(path: Path, text: str) -> None:
    """Write a file that appears with all of its content at once."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
