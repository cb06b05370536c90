"""What a test needs that a machine may not have, and how to get it.

    need("chromium")

goes on where it is there. Elsewhere the test is left out, and a list at the end of the run says
which, and by which command the missing part comes. With CI=true nothing is left out: there the
test fails.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from functools import lru_cache
from typing import Any, Callable, NamedTuple

import pytest
from redis_server import find_redis

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SAID = "needs "  # how the reason begins


class Part(NamedTuple):
    is_here: Callable[[], bool]
    way: str  # to get it


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def find_uwsgi() -> str | None:
    """The one of this interpreter: it is built into the program."""
    return shutil.which("uwsgi", path=sysconfig.get_path("scripts"))


def _works(*command: str) -> bool:
    """Whether this command may be given here: a container's root lacks many a right."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _works("mount", "-t", "tmpfs", "disk", folder) and _works("umount", folder)


def _may_make_ext4() -> bool:
    """An image, formatted, and mounted by a loop device."""
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "image")
        with open(image, "wb") as file:
            file.truncate(1 << 20)
        place = os.path.join(folder, "disk")
        os.mkdir(place)
        made = _works("mkfs.ext4", "-q", "-F", image)
        return made and _works("mount", "-o", "loop", image, place) and _works("umount", place)


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def _has_redis() -> bool:
    with contextlib.suppress(RuntimeError):
        return bool(os.environ.get("REDIS_URL") or find_redis())
    return False


def _has_rabbitmq() -> bool:
    if importlib.util.find_spec("amqp") is None:
        return False
    return importlib.import_module("rabbitmq_server").find_rabbitmq() is not None


AS_ROOT = "run it as root (in a container: with the right to mount)"
PARTS = {
    "awslambdaric": Part(
        lambda: importlib.util.find_spec("awslambdaric") is not None,
        f"{sys.executable} -m pip install awslambdaric, on Linux",
    ),
    "IPv6": Part(_has_ipv6, "let the loopback interface have ::1"),
    "chromium": Part(
        lambda: bool(find_chromium() and shutil.which("chromedriver")),
        "sudo apt-get install chromium chromium-driver",
    ),
    "small disks": Part(_may_mount, AS_ROOT),
    "ext4": Part(_may_make_ext4, f"sudo apt-get install e2fsprogs mount, and {AS_ROOT}"),
    "pid namespaces": Part(
        lambda: _works("unshare", "--pid", "--fork", "--mount-proc", "true"),
        f"sudo apt-get install util-linux, and {AS_ROOT}",
    ),
    "rabbitmq": Part(
        _has_rabbitmq,
        "sudo apt-get install rabbitmq-server",
    ),
    "redis": Part(_has_redis, "sudo apt-get install redis-server"),
    "uwsgi": Part(lambda: find_uwsgi() is not None, f"{sys.executable} -m pip install pyuwsgi"),
}


@lru_cache(maxsize=None)
def _is_here(part: str) -> bool:
    return PARTS[part].is_here()


def need(part: str) -> None:
    """Leave the test out that calls this, unless the part is here."""
    if _is_here(part):
        return
    reason = f"{SAID}{part}. To have it: {PARTS[part].way}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The list: part, way, and the tests by name."""
    left_out: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, found, part = reason.partition(f"Skipped: {SAID}")
        if found:
            left_out.setdefault(part, Counter())[report.nodeid.partition("[")[0]] += 1
    if left_out:
        terminalreporter.section("left out: this machine lacks a part")
    for part, tests in sorted(left_out.items()):
        terminalreporter.line(f"{sum(tests.values())} tests need {part}")
        for name, times in sorted(tests.items()):
            terminalreporter.line(f"    {name}" + (f" ({times})" if times > 1 else ""))
