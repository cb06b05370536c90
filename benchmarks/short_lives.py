"""The journal with many short lives: this build beside another one, in one run.

    python short_lives.py --other FOLDER [--children 1500] [--repeats 3] [--journal FOLDER]

FOLDER holds the other build: a checkout, or what ``git archive COMMIT | tar x`` unpacks. So many
processes track once and end by ``os._exit``; then one process delivers what they left. The two
builds take turns. The last lines are the medians, and the other's for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measuring import Sink

WORKER = Path(__file__).resolve().parent / "workers" / "short_lives.py"


def measure(build: str | None, given: argparse.Namespace) -> dict[str, float]:
    """One round of one build. None: the installed one."""
    environment = dict(os.environ)
    if build is not None:
        environment["PYTHONPATH"] = str(Path(build).resolve())
    with Sink() as sink:
        options = {"url": sink.url, "journal": given.journal, "children": given.children}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        output = subprocess.run(
            [sys.executable, str(WORKER), "whisperr", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        arrived = sink.arrived()
    found = json.loads(output.splitlines()[-1])
    assert arrived >= found["sent"], f"{arrived} of {found['sent']} arrived"
    return {**found["figures"], "arrived": arrived}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", required=True, metavar="FOLDER", help="that holds another build")
    parser.add_argument("--children", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--journal", default="", metavar="FOLDER", help="on the disk to measure")
    given = parser.parse_args()
    builds = {"this": None, "other": given.other}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in builds}
    for _ in range(given.repeats):
        for name, build in builds.items():
            rounds[name].append(measure(build, given))
            print(name, rounds[name][-1], flush=True)
    for figure in rounds["this"][0]:
        this, other = (statistics.median(it[figure] for it in rounds[name]) for name in builds)
        ratio = f"{this / other:.3f}" if other else "-"
        print(f"{figure:12} {this:14.3f} {other:14.3f}   ratio {ratio}")


if __name__ == "__main__":
    main()
