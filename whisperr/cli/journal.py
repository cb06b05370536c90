"""``whisperr journal``: look at a journal folder, deliver or delete what dead processes left.

``list`` and ``show`` only read, and ask the kernel for the owner of a lock without taking it:
a live owner does not notice. ``deliver`` and ``purge`` touch what is dead, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterator

from whisperr import _console
from whisperr._encoding.bodies import batch
from whisperr._encoding.records import Identity
from whisperr._settings import DEFAULT_BASE_URL, check_timeout

if TYPE_CHECKING:
    from whisperr._journal.format import Frame
    from whisperr._journal.reader import SegmentContents
    from whisperr.cli._holdings import Holding

Row = Dict[str, Any]

_COLUMNS = (
    "destination",
    "chain",
    "owner",
    "segments",
    "waiting",
    "settled",
    "bytes",
    "reserved",
    "age",
    "damaged",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (_, summary, prepare) in _ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=f"{name}: {summary}.")
        action.add_argument(
            "--dir",
            default=os.environ.get("WHISPERR_JOURNAL_DIR"),
            help="the journal_dir of the clients (default: $WHISPERR_JOURNAL_DIR)",
        )
        prepare(action)


def run(options: argparse.Namespace) -> int:
    if not options.dir:
        return _failed("name the folder: --dir, or WHISPERR_JOURNAL_DIR", 2)
    try:
        from whisperr.cli import _holdings  # noqa: F401
    except ImportError as error:
        return _failed(f"there is no journal on this operating system ({error})")
    if not os.path.isdir(options.dir):
        return _failed(f"there is no folder {options.dir}")
    try:
        return _ACTIONS[options.action][0](options)
    except OSError as error:
        return _failed(f"{error.strerror or error}: {error.filename or options.dir}")


def _failed(message: str, status: int = 1) -> int:
    _say(message)
    return status


def _say(message: str) -> None:
    _console.complain("whisperr journal", message)


# --- list


def _list(options: argparse.Namespace) -> int:
    from whisperr.cli._holdings import holdings

    rows = [_row(holding) for holding in holdings(options.dir)]
    if options.json:
        _console.write(json.dumps(rows, indent=2))
        return 0
    if not rows:
        _console.write("nothing: every record was delivered")
        return 0
    shown = [tuple(_shown(name, row[name]) for name in _COLUMNS) for row in rows]
    _console.write_table([_COLUMNS, *shown])
    return 0


def _row(holding: Holding) -> Row:
    segments = holding.contents.segments
    waiting = holding.waiting()
    created = [segment.header.created / 1e9 for segment in segments if segment.header]
    is_dead = holding.owner is None  # a living owner may be in the middle of an append
    return {
        "destination": holding.destination,
        "chain": holding.name,
        "owner": "dead" if is_dead else f"alive {holding.owner or ''}".strip(),
        "segments": len(segments),
        "waiting": len(waiting),
        "settled": sum(len(segment.records) for segment in segments) - len(waiting),
        "bytes": sum(frame.size for frame in waiting),
        "reserved": sum(segment.reserved for segment in segments),
        "age": round(time.time() - min(created), 1) if created else None,
        "damaged": sum(segment.damaged for segment in segments) if is_dead else 0,
        "notes": sorted({segment.fault for segment in segments if segment.fault}),
    }


def _shown(name: str, value: Any) -> str:
    if name == "age":
        return "?" if value is None else f"{value:.0f} s"
    return str(value)[:8] if name == "destination" else str(value)


# --- show


def _show(options: argparse.Namespace) -> int:
    from whisperr.cli._holdings import holdings

    wanted = [it for it in holdings(options.dir) if it.name.startswith(options.chain)]
    if options.chain and not wanted:
        return _failed(f"there is no chain {options.chain}")
    _console.write_json_lines(islice(_records(wanted, options.all), options.limit))
    return 0


def _records(wanted: list[Holding], with_settled: bool) -> Iterator[Row]:
    for holding in wanted:
        for segment in holding.contents.segments:
            for frame in segment.records:
                settled = holding.contents.is_settled(frame.number)
                if with_settled or not settled:
                    yield _record(holding, segment, frame, settled)


def _record(holding: Holding, segment: SegmentContents, frame: Frame, settled: bool) -> Row:
    """One record as it would be sent."""
    from whisperr._journal import format as file_format

    record = file_format.decode_record(frame, 0, holding.producer(segment))
    row: Row = {"chain": holding.name, "number": frame.number, "settled": settled}
    if record is None:
        return {**row, "unknown": True}
    if isinstance(record, Identity):
        return {**row, "identify": _parsed(record.body), "id": (record.id or b"").decode()}
    body = batch([record], b"", b"")
    return {**row, "track": _parsed(body, "events")}


def _parsed(body: bytes, member: str = "") -> Any:
    try:
        value = json.loads(body)
        return value[member][0] if member else value
    except (ValueError, LookupError):
        return body.decode("utf-8", "replace")


# --- deliver


def _deliver(options: argparse.Namespace) -> int:
    from whisperr import Whisperr
    from whisperr.cli import _watching

    key = os.environ.get("WHISPERR_API_KEY")
    if not key and not os.environ.get("WHISPERR_BROKER_URL"):
        return _failed("set WHISPERR_API_KEY: a record goes to the key it was tracked with", 2)
    try:
        client = Whisperr(key, base_url=options.base_url, journal_dir=options.dir)
        timeout = check_timeout("--timeout", options.timeout)
        interval = check_timeout("--interval", options.interval)
    except ValueError as error:
        return _failed(str(error), 2)
    if options.watch:
        _console.write(_watching.summary(_watching.watch(client, interval, min(timeout, 5.0))))
        return 0
    settled = client.flush(timeout)
    stats = client.stats()
    client.shutdown(1.0)
    dropped = sum(stats["dropped"].values())
    _console.write(_watching.summary(stats))
    if not settled:
        _say(stats["last_error"] or "the time was over")
    # As the client writes it: without a trailing slash, or it would be another destination.
    others = _waiting_elsewhere(options.dir, client._settings.destination)
    if others:
        place = client._settings.place
        _say(f"{others} records wait for another key or another base URL than {place}")
    # Nothing of this destination and something of others: it is the wrong one, most likely.
    is_wrong = bool(others) and not stats["adopted"]
    return 0 if settled and not dropped and not is_wrong else 1


def _waiting_elsewhere(journal_dir: str, own: tuple[str, str]) -> int:
    """Records of dead processes that go to other destinations than this one."""
    from whisperr._journal.folder import destination
    from whisperr.cli._holdings import holdings

    mine = destination(*own).hex()
    dead = [holding for holding in holdings(journal_dir) if holding.owner is None]
    return sum(len(holding.waiting()) for holding in dead if holding.destination != mine)


# --- purge


def _purge(options: argparse.Namespace) -> int:
    from whisperr.cli._holdings import holdings, set_aside

    dead = [holding for holding in holdings(options.dir) if holding.owner is None]
    damaged = list(set_aside(options.dir)) if options.damaged else []
    waiting = sum(len(holding.waiting()) for holding in dead)
    what = f"{len(dead)} chain{'s' * (len(dead) != 1)} of dead processes with {waiting} undelivered records"
    if options.damaged:
        what += f", {len(damaged)} damaged files"
    if not options.yes:
        _console.write(f"{what}: would be deleted; add --yes to do it")
        return 1
    deleted = sum(map(_delete, dead))
    for path in damaged:
        os.unlink(path)
    _console.write(
        f"{what}: deleted" if deleted == len(dead) else f"{what}: {deleted} chains deleted"
    )
    return 0 if deleted == len(dead) else 1


def _delete(holding: Holding) -> bool:
    from whisperr._journal.ownership import Chain

    chain = Chain.claim(holding.folder, holding.name)
    if chain is None:  # adopted meanwhile
        return False
    for path in chain.segments():
        os.unlink(path)
    chain.release(remove=True)
    return True


# --- the command line


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "chain", nargs="?", default="", help="only this one; its first characters will do"
    )
    parser.add_argument("--all", action="store_true", help="settled records, too")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most so many records")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a number, 0 or more")
    return int(text)


def _deliver_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base-url",
        default=os.environ.get("WHISPERR_BASE_URL") or DEFAULT_BASE_URL,
        help=f"(default: $WHISPERR_BASE_URL, or {DEFAULT_BASE_URL})",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--watch", action="store_true", help="go on until SIGTERM or Ctrl-C, and deliver what comes"
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="with --watch: between two looks (default: %(default)s)",
    )


def _purge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--damaged", action="store_true", help="and the files set aside")
    parser.add_argument("--yes", action="store_true", help="do it")


_ACTIONS = {
    "list": (_list, "the chains of segments: owner, records, bytes, age", _list_arguments),
    "show": (_show, "the records that wait, as JSON lines", _show_arguments),
    "deliver": (_deliver, "deliver now what dead processes left", _deliver_arguments),
    "purge": (_purge, "delete what dead processes left", _purge_arguments),
}
