from __future__ import annotations

import faulthandler
import signal
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    execute_from_command_line(sys.argv)
