"""The page docs/reference/hosts.md: written from counts, and read again to be compared."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Mapping, Sequence

from one_run import KINDS, Count
from table_rows import FLUSH, JOURNAL, KILLED, LINE, PLAIN, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "hosts.md"

HEAD = """\
# The table of hosts

Made by a program of the repository (`python3 dev.py tox -e hosts -- --write`), which runs each of these with an application that tracks numbered
events and delivers none before its end: `flush_interval` bounds what is lost, and is an hour here. {when}, CPython {python} on Linux.

| column | |
|---|---|
| plain | no hook of ours, stopped as one stops it: arrived of tracked |
| our line | the same, with this line |
| journal | as plain, with a [journal](../explanation/journal.md) and a later process |
| SIGKILL | all its processes killed instead, with a journal and a later process |

| host | version | plain | our line | | journal | SIGKILL | why |
|---|---|---|---|---|---|---|---|
"""
TAIL = """
Under other hosts the kind of exit decides: [what no hook can save](../explanation/exits.md). Not run here, as they want a service of their own:
Airflow, Prefect, Ray, PySpark, procrastinate (a worker that ends by `sys.exit` or a signal handler of its own delivers; one that is killed
or ends by `os._exit` does not). systemd sends SIGTERM to the whole group (`KillMode=control-group`), Kubernetes to the first process of
the container, after `preStop`: a row with SIGTERM says what happens then.
"""
_ROW = re.compile(r"^\| (?P<name>[^|]+?) \| (?P<rest>.*) \|$", re.MULTILINE)


def write(rows: Sequence[Row], counts: Mapping[tuple[str, str], Count]) -> None:
    """All rows in their order. One that was not run, or could not be, stays as it is."""
    when = datetime.date.today().strftime("%B %Y")
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    before = {found["name"]: f"{found[0]}\n" for found in _ROW.finditer(text)}
    failed = {name for (name, _), count in counts.items() if count.problem}
    done = {name for name, _ in counts} - failed
    lines = [_line(row, counts) if row.name in done else before.get(row.name, "") for row in rows]
    head = HEAD.format(when=when, python=platform.python_version())
    PAGE.write_text(head + "".join(lines) + TAIL, encoding="utf-8")


def read() -> dict[tuple[str, str], str]:
    """By name and kind of run, what the page says."""
    said = {}
    for found in _ROW.finditer(PAGE.read_text(encoding="utf-8")):
        cells = [cell.strip() for cell in found["rest"].split(" | ")]
        if len(cells) == 7:
            _, plain, line, _, journal, killed, _ = cells
            values = {PLAIN: plain, LINE: line, JOURNAL: journal, KILLED: killed}
            said.update({(found["name"], kind): values[kind] for kind in KINDS})
    return said


def has_line(row: Row) -> bool:
    return bool(row.line or row.line_files or row.line_command)


def version(row: Row) -> str:
    if not row.package:
        return platform.python_version()
    return importlib.metadata.version(row.package)


def _line(row: Row, counts: Mapping[tuple[str, str], Count]) -> str:
    cells = {kind: str(counts.get((row.name, kind), "")) for kind in KINDS}
    shown = row.shown or (f"`{row.line}`" if row.line and not row.line.startswith(FLUSH) else "")
    why = row.why if counts[row.name, PLAIN].arrived < counts[row.name, PLAIN].tracked else ""
    why += "; one run of a race" if row.varies else ""
    return (
        f"| {row.name} | {version(row)} | {cells[PLAIN]} | {cells[LINE]} | {shown} "
        f"| {cells[JOURNAL]} | {cells[KILLED]} | {why.lstrip('; ')} |\n"
    )
