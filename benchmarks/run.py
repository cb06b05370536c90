"""The benchmarks: this whisperr against the published one, in one run on one machine.

    python benchmarks/run.py [--peers] [--json] [--only burst,memory] …

Needs nothing but the standard library and an installed whisperr. Exit status 0 unless
something broke: a missed target is said in the table, and is not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import environments
import measures
import report


def main() -> None:
    given = _arguments()
    cache = given.cache.absolute()
    chosen = [environments.ours(), environments.published(cache)]
    if given.peers:
        chosen += environments.peers(cache)
    samples = {}
    with measures.Sink() as sink:
        bench = measures.Bench(chosen, sink, given.rounds, given.quick)
        for name in given.only:
            begun = time.monotonic()
            samples[name] = measures.MEASURES[name](bench)
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    medians = {name: measures.medians(found) for name, found in samples.items()}
    columns = [environment.name for environment in chosen]
    if "tail" in given.only:
        columns.append(measures.NO_SDK)
    if given.json:
        print(json.dumps({"machine": _machine(), "medians": medians, "samples": samples}, indent=1))
        return
    text = report.table(medians, columns)
    print(f"{_machine()}\n\n{text}\n")
    print(f"Targets missed: {report.missed(text)}.")
    if given.importtime:
        print("\nimport whisperr, each module by itself, ms:")
        for own, module in measures.slowest_imports(chosen[0]):
            print(f"{own:8.2f}  {module}")


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{python}, {system}; the server on loopback, in another process; medians"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="other SDKs too, where installable")
    parser.add_argument("--json", action="store_true", help="medians and all samples as JSON")
    parser.add_argument(
        "--importtime", action="store_true", help="the modules that an import costs"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the events")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--only", type=_names, default=list(measures.MEASURES), metavar="A,B")
    parser.add_argument("--cache", type=Path, default=environments.default_cache())
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(measures.MEASURES):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: not one of {', '.join(measures.MEASURES)}"
        )
    return names


if __name__ == "__main__":
    main()
