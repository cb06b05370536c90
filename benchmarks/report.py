"""What was found -> Markdown: a table for each panel, and the targets with their verdicts."""

from __future__ import annotations

import re
import statistics
from typing import Any, Mapping

from layout import PANELS, Panel

Values = Mapping[str, "list[float]"]  # column -> one value for each repeat


def number(value: float) -> str:
    """Three digits that count, and no more: ``0.07``, ``1.52``, ``13.3``, ``1,592``."""
    if value == 0:
        return "0"
    for below, digits in ((0.1, 3), (10, 2), (100, 1)):
        if abs(value) < below:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def cell(values: list[float]) -> str:
    """The median, and between which values it lies when there are several."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    low, high = number(min(values)), number(max(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(panel: Panel, samples: Mapping[str, Values], columns: Mapping[str, str]) -> str:
    """Rows: columns of the run, as there are more of them than of figures. ``columns``: key -> name."""
    shown = [(name, words) for name, words in panel.figures if samples.get(name)]
    rows = [[f"{panel.title}, {panel.unit}", *(words for _, words in shown)]]
    for key, name in columns.items():
        cells = [cell(list(samples[figure].get(key, []))) for figure, _ in shown]
        if any(cells):
            rows.append([name, *cells])
    return markdown(rows) if len(rows) > 1 else ""


def part(name: str, found: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The tables of one part, and which columns have no figure, and why."""
    blocks = [table(panel, found["samples"], columns) for panel in PANELS[name]]
    for key, why in found["invalid"].items():
        again = " in one repeat" if _has_figures(found["samples"], key) else ""
        blocks.append(f"No figure for {columns[key]}{again}: {why}.")
    return "\n\n".join(block for block in blocks if block)


def targets(verdicts: list[Mapping[str, str]]) -> str:
    rows = [["", "target", "reached (ours : theirs)", ""]]
    rows += [[line["what"], line["target"], line["reached"], line["verdict"]] for line in verdicts]
    return markdown(rows)


def machine(facts: Mapping[str, Any]) -> str:
    """One sentence: where and when."""
    quick = " A `--quick` run." if facts["quick"] else ""
    load = f"load {facts['load_before']} before, {facts['load_after']} after"
    return (
        f"{facts['python']} on {facts['system']}, {facts['cpu']}, {facts['cores']} cores, {load}; "
        f"{facts['date']}, {facts['seconds']:.0f} s.{quick}"
    )


def notes(run: Mapping[str, Any]) -> str:
    return "\n".join(f"- {note}" for note in run["notes"])


def document(run: Mapping[str, Any], pictures: str = "") -> str:
    """The whole report. ``pictures``: the folder of the plots, as a link sees it; "" for none."""
    columns = {column["key"]: column["name"] for column in run["columns"]}
    blocks = [machine(run["machine"]), targets(run["targets"]), notes(run)]
    for name, found in run["parts"].items():
        blocks.append(f"### {found['title']}")
        if pictures:
            blocks.append(f"![{found['title']}]({pictures}/{name}.png)")
        blocks.append(part(name, found, columns))
    return "\n\n".join(block for block in blocks if block) + "\n"


def summary(run: Mapping[str, Any]) -> str:
    """The targets alone."""
    return f"{machine(run['machine'])}\n\n{targets(run['targets'])}\n"


def fill(text: str, version: str, run: Mapping[str, Any], pictures: str) -> tuple[str, bool]:
    """A page with the places marked for this Python version filled anew; whether plots go with it.

    ``<!-- all 3.13 -->…<!-- end -->`` takes the whole report, ``<!-- targets 3.8 -->…`` the
    targets. Raises ValueError when the page has no place for this version.
    """
    marked = re.compile(rf"(<!-- (all|targets) {re.escape(version)} -->\n).*?(<!-- end -->)", re.S)
    found = [match.group(2) for match in marked.finditer(text)]
    if not found:
        raise ValueError(f"the page has no place for Python {version}")

    def put(match: re.Match[str]) -> str:
        body = document(run, pictures) if match.group(2) == "all" else summary(run)
        return f"{match.group(1)}\n{body}\n{match.group(3)}"

    return marked.sub(put, text), "all" in found


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table that also reads well as plain text."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _has_figures(samples: Mapping[str, Values], key: str) -> bool:
    return any(values.get(key) for values in samples.values())
