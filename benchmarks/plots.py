"""The plots: ``python plots.py results.json folder``, in an environment that has matplotlib.

One PNG for each part that was measured, small enough to live in a repository.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display
import matplotlib.pyplot as plt
from layout import PANELS, Panel
from matplotlib.ticker import NullFormatter

OURS, JOURNAL, EMPTY = "#0b7a75", "#5fb3af", "#b0b0b0"
OTHERS = ["#7b4b94", "#c2703d", "#4a6fa5", "#a23b5c", "#8a8a2b", "#555555"]
SHADES = (1.0, 0.55, 0.8, 0.65, 0.4)  # of the bars of one column
MARKS = "o|dxs"  # of the figures of one line
BESIDE = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
DPI = 90


def main() -> None:
    run = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    columns = {column["key"]: column["name"] for column in run["columns"]}
    colours = _colours(list(columns))
    for name, found in run["parts"].items():
        panels = [panel for panel in PANELS[name] if _measured(panel, found["samples"])]
        if panels:
            _draw(panels, found["samples"], columns, colours, folder / f"{name}.png")


def _colours(keys: list[str]) -> dict[str, str]:
    fixed = {"ours": OURS, "journal": JOURNAL, "empty": EMPTY}
    others = iter(OTHERS)
    return {key: fixed[key] if key in fixed else next(others) for key in keys}


def _measured(panel: Panel, samples: Any) -> bool:
    return any(samples.get(figure) for figure, _ in panel.figures)


def _draw(panels: list[Panel], samples: Any, columns: Any, colours: Any, path: Path) -> None:
    heights = [_height(panel, samples) for panel in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(7.2, sum(heights)), squeeze=False, height_ratios=heights
    )
    for panel, axis in zip(panels, axes[:, 0]):
        _KINDS[panel.kind](axis, panel, samples, columns, colours)
        axis.set_title(f"{panel.title}, {panel.unit}", loc="left", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, metadata={"Software": ""})
    plt.close(figure)


def _height(panel: Panel, samples: Any) -> float:
    """Inches."""
    if panel.kind == "lines":
        return 2.6
    columns = {key for figure, _ in panel.figures for key in samples.get(figure, {})}
    bars = len(panel.figures) if panel.kind == "bars" else 1
    return 0.85 + len(columns) * (0.24 if bars == 1 else 0.11 * bars + 0.08)


def _rows(panel: Panel, samples: Any, columns: Any) -> list[str]:
    """The columns of the run that have a figure here, the first one on top."""
    return [key for key in columns if any(samples.get(it, {}).get(key) for it, _ in panel.figures)]


def _ladder(axis: Any, panel: Panel, samples: Any, columns: Any, colours: Any) -> None:
    """A line for each column of the run, a mark on it for each figure."""
    keys = _rows(panel, samples, columns)
    marks = dict(zip((words for _, words in panel.figures), MARKS))
    for place, key in enumerate(keys):
        points = [
            (statistics.median(samples[figure][key]), words)
            for figure, words in panel.figures
            if samples.get(figure, {}).get(key)
        ]
        axis.plot([value for value, _ in points], [place] * len(points), color=colours[key], lw=1.2)
        for value, words in points:
            axis.plot([value], [place], marks[words], color=colours[key], ms=6)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(range(len(keys)), [columns[key] for key in keys])
    axis.set_ylim(len(keys) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)
    if len(marks) > 1:
        shapes = [
            axis.plot([], [], mark, color="#444444", label=words)[0]
            for words, mark in marks.items()
        ]
        axis.legend(handles=shapes, fontsize=7, frameon=False, **BESIDE)


def _bars(axis: Any, panel: Panel, samples: Any, columns: Any, colours: Any) -> None:
    keys = _rows(panel, samples, columns)
    shown = [pair for pair in panel.figures if samples.get(pair[0])]
    wide = 0.8 / len(shown)
    for index, (figure, words) in enumerate(shown):
        values = [
            statistics.median(samples[figure][key]) if samples[figure].get(key) else 0
            for key in keys
        ]
        places = [place + index * wide - 0.4 + wide / 2 for place in range(len(keys))]
        drawn = axis.barh(places, values, wide * 0.92, color=[colours[key] for key in keys])
        for bar in drawn:
            bar.set_alpha(SHADES[index % len(SHADES)])
        text = [_label(value) + (f"  {words}" if len(shown) > 1 else "") for value in values]
        axis.bar_label(drawn, text, padding=3, fontsize=6 if len(shown) > 1 else 7)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_yticks(range(len(keys)), [columns[key] for key in keys])
    axis.set_ylim(len(keys) - 0.5, -0.5)
    axis.margins(x=0.25)


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.2g}"


def _lines(axis: Any, panel: Panel, samples: Any, columns: Any, colours: Any) -> None:
    """One line for each column, over the sizes that the figures are named for."""
    for key in _rows(panel, samples, columns):
        points = [
            (int(figure.split("@")[1]), statistics.median(samples[figure][key]))
            for figure, _ in panel.figures
            if samples.get(figure, {}).get(key)
        ]
        axis.plot(*zip(*points), "o-", color=colours[key], ms=4, lw=1.4, label=columns[key])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(panel.axis)
    axis.grid(alpha=0.3)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter("{x:,g}")
        scale.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=7, frameon=False, **BESIDE)


_KINDS = {"ladder": _ladder, "bars": _bars, "lines": _lines}

if __name__ == "__main__":
    main()
