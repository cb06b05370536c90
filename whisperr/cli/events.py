"""``whisperr events``: what an application tracks, as a plan: list it, write it, check against it.

Exits with 0 if that is done and all is as planned, 1 if not, 2 for a source or a plan that can't be
read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Iterator
from urllib.request import ProxyHandler, build_opener

from whisperr import _console
from whisperr.cli import _plan
from whisperr.cli._plan import Seen

TIMEOUT = 30.0  # seconds
SENT = ("arrived", "resent", "twice")  # states of what the sandbox has taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A file of events is what `pytest --whisperr-events=FILE` writes, or an export of the sandbox."
    parser.add_argument(
        "source", metavar="SOURCE", help="the address of a sandbox, http://..., or a file of events"
    )
    parser.add_argument(
        "--write", metavar="FILE", help="write the plan, a JSON Schema, to this file"
    )
    parser.add_argument("--check", metavar="FILE", help="check all events against this plan")


def run(options: argparse.Namespace) -> int:
    try:
        seen = list(_read(options.source))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "no events"
        return _failed(f"{options.source} can't be read: {reason}")
    if not seen:
        return _failed(f"there is no event in {options.source}")
    if options.check:
        return _check(options.check, seen)
    found = _plan.shapes(seen)
    if options.write:
        text = json.dumps(_plan.schema(found), indent=2, ensure_ascii=False) + "\n"
        try:
            Path(options.write).write_text(text, encoding="utf-8")
        except OSError as error:
            return _failed(f"{options.write} can't be written: {error.strerror}")
    _console.write(_as_text(found))
    return 0


def _check(name: str, seen: list[Seen]) -> int:
    try:
        plan: Any = json.loads(Path(name).read_text(encoding="utf-8"))
        found = _plan.complaints(plan, seen)
    except ImportError:
        return _failed("--check needs the extra whisperr[plan], which is jsonschema")
    except OSError as error:
        return _failed(f"{name} can't be read: {error.strerror}")
    except (ValueError, AttributeError, TypeError) as error:
        return _failed(f"{name} is no plan: {error}")
    for sentence, count in found.items():
        _console.write(f"{sentence} ({count} event{'' if count == 1 else 's'})")
    if not found:
        _console.write(f"{len(seen)} events are as planned.")
    return int(bool(found))


def _as_text(found: dict[str, _plan.Shape]) -> str:
    lines: list[str] = []
    for name, shape in found.items():
        lines.append(f"{name}, {shape.count} times")
        rows = list(shape.rows())
        width = max((len(path) for path, _, _ in rows), default=0)
        lines += [f"  {path:{width}}  {types}, {often}" for path, types, often in rows]
    return "\n".join(lines)


def _read(source: str) -> Iterator[Seen]:
    if source.startswith(("http://", "https://")):
        opener = build_opener(ProxyHandler({}))  # it is on this machine
        with opener.open(f"{source.rstrip('/')}/page/export", timeout=TIMEOUT) as answer:
            for line in answer:
                yield from _entry(json.loads(line))
        return
    with open(source, encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield from _entry(json.loads(line))


def _entry(entry: dict[str, Any]) -> Iterator[Seen]:
    """Of the sandbox's export, or of a test run."""
    if "state" not in entry:
        yield Seen(str(entry["type"]), dict(entry["properties"]))
    elif entry["state"] in SENT and entry["kind"] == "event":
        yield Seen(entry["body"]["event_type"], entry["body"]["properties"])
    elif entry["state"] in SENT and entry["kind"] == "identity":
        yield Seen("identify", entry["body"].get("traits", {}))


def _failed(message: str) -> int:
    _console.complain("whisperr events", message)
    return 2
