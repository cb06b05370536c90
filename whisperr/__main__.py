"""``python -m whisperr``: the command ``whisperr``."""

import sys

from whisperr.cli import main

if __name__ == "__main__":
    sys.exit(main())
