"""The benchmarks: this whisperr beside the published one and the SDKs of others, in one run.

    python benchmarks/run.py [--quick] [--parts burst,memory] [--peers 0.2.1,posthog] [--docs]

Needs the standard library and an installed whisperr. Writes results.json, results.md and the
plots into a folder, and prints the report, the targets with their verdicts last. The exit
status is 0 unless something broke: a missed target is said, and is not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Sequence

import environments
import measuring
import plan
import report
import targets

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "performance.md"


def main() -> None:
    given = parse(sys.argv[1:])
    run = measure(given)
    write(run, given)
    print(report.document(run))
    print(report.summary(run))
    missed = sum(line["verdict"] == targets.MISSED for line in run["targets"])
    print(f"Targets missed: {missed}. Everything is in {given.out}.")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole run, as it is written to results.json."""
    columns, notes = columns_of(given.peers, given.cache)
    load, begun = _load(), time.time()
    parts: dict[str, Any] = {}
    with measuring.Sink() as sink:
        for part in plan.chosen(given.parts, sys.platform):
            at = time.monotonic()
            found = measuring.measure(part, columns, sink, given.quick, given.repeats)
            parts[part.name] = {
                "title": part.title,
                "repeats": given.repeats or part.times(given.quick),
                "options": {it.key: part.options(it.key, given.quick) for it in columns},
                "samples": found.samples,
                "invalid": found.invalid,
            }
            said = "".join(f"; {key}: {why}" for key, why in found.invalid.items())
            print(f"{part.name}: {time.monotonic() - at:.0f} s{said}", file=sys.stderr)
    samples = {name: found["samples"] for name, found in parts.items()}
    return {
        "machine": {
            **_machine(),
            "load_before": load,
            "load_after": _load(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begun)),
            "seconds": time.time() - begun,
            "quick": given.quick,
        },
        "columns": [{"key": it.key, "name": it.name, "packages": it.packages} for it in columns],
        "notes": notes,
        "targets": [verdict.as_dict() for verdict in targets.judge(samples)],
        "parts": parts,
    }


def columns_of(
    peers: Sequence[str], cache: Path
) -> tuple[list[environments.Environment], list[str]]:
    """The columns of the run, and what is to be said about those that are missing."""
    notes = []
    ours = environments.ours()
    journal = environments.with_journal(ours)
    if journal is None:
        notes.append(f"Without a journal: {ours.name} has no option `journal_dir`.")
    found, missing = environments.installed(list(peers), cache)
    notes += [f"Left out, {name} can't be installed here: {why}" for name, why in missing.items()]
    return [environments.empty(), ours, *([journal] if journal else []), *found], notes


def write(run: dict[str, Any], given: argparse.Namespace) -> None:
    """results.json, results.md and the plots; and the page of the documentation, if asked."""
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.json"
    results.write_text(json.dumps(run, indent=1), encoding="utf-8")
    drawn = given.plots and _draw(results, given.out, given.cache)
    text = report.document(run, "." if drawn else "")
    (given.out / "results.md").write_text(text, encoding="utf-8")
    if given.docs:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        page, with_plots = report.fill(
            PAGE.read_text(encoding="utf-8"), version, run, "performance"
        )
        PAGE.write_text(page, encoding="utf-8")
        if with_plots and drawn:
            _draw(results, PAGE.with_suffix(""), given.cache)


def _draw(results: Path, folder: Path, cache: Path) -> bool:
    """Draw with matplotlib, in an environment of its own. False where it can't be had."""
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).resolve().parent / "plots.py"
    try:
        python = environments.matplotlib(cache)
    except subprocess.CalledProcessError:
        print("no plots: matplotlib can't be installed here", file=sys.stderr)
        return False
    subprocess.run([python, str(script), str(results), str(folder)], check=True)
    return True


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            names = [
                line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")
            ]
    except OSError:
        names = []
    return (names or [platform.processor() or "unknown processor"])[0]


def _load() -> float:
    """Of the last minute; 0 where it is not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every part, smaller: 3 minutes")
    parser.add_argument(
        "--parts",
        type=_chosen_of(part_names()),
        default=part_names(),
        metavar="A,B",
        help=f"of {', '.join(part_names())}",
    )
    parser.add_argument(
        "--peers",
        type=_chosen_of(environments.PEERS),
        default=list(environments.PEERS),
        metavar="A,B",
        help=f"of {', '.join(environments.PEERS)}; or none",
    )
    parser.add_argument("--repeats", type=_positive, help="of each part, instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (results)")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write docs/explanation/performance.md and its plots, too",
    )
    parser.add_argument("--no-plots", dest="plots", action="store_false")
    parser.add_argument(
        "--cache",
        type=Path,
        default=environments.default_cache(),
        help="folder of the peers' environments",
    )
    given = parser.parse_args(arguments)
    given.cache, given.out = given.cache.absolute(), given.out.absolute()
    return given


def part_names() -> list[str]:
    return [part.name for part in plan.PARTS]


def _chosen_of(known: Sequence[str]) -> Any:
    def names(text: str) -> list[str]:
        given = [] if text == "none" else text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return [name for name in known if name in given]

    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number, 1 or more")
    return int(text)


if __name__ == "__main__":
    main()
