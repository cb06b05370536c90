"""``python -m whisperr.sandbox``: the same as ``whisperr sandbox``."""

from __future__ import annotations

import argparse
import sys

from whisperr import _console
from whisperr.sandbox import command


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m whisperr.sandbox",
        description="The ingestion API on this machine: checks every rule, counts every event.",
    )
    command.add_arguments(parser)
    return _console.run(parser.prog, lambda: command.run(_console.parse(parser, None)))


if __name__ == "__main__":
    sys.exit(main())
