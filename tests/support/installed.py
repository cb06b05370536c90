"""whisperr as it is installed: the wheel of this checkout, unpacked into a folder of its own.

Found by PYTHONPATH it brings its entry points, as in site-packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from support.deadlines import generous

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = generous(50.0)  # seconds


def built_wheel(folder: Path) -> Path:
    """The wheel, in ``folder``, which holds nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout
    (wheel,) = folder.iterdir()
    return wheel


def unpacked_wheel(folder: Path) -> Path:
    """The folder for PYTHONPATH, below ``folder``."""
    site = folder / "site"
    wheel = built_wheel(folder / "built")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def environment(site: Path, **more: str) -> dict[str, str]:
    """Of a user's process: it has the wheel, and nothing of the checkout or of our own pytest."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "WHISPERR_", "DJANGO_"))
    }
    return {**inherited, "PYTHONPATH": str(site), **more}
