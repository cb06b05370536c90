"""A gunicorn and a Celery worker on one journal, while somebody kills their processes all the time.

``WHISPERR_STORM_SECONDS`` says for how long; 45 if it doesn't.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import storm_app
from support.broker import Broker
from support.celery_worker import Setup, environment_of, run_celery
from support.servers import Served, Setting
from support.storms import (
    BETWEEN_FAULTS,
    BETWEEN_KILLS,
    Reaper,
    files_in,
    is_torn,
    repeated,
    seconds_of_storm,
    toll,
    trouble,
    wait_until,
)
from whisperr.sandbox import Sandbox
