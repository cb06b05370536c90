"""Where each SDK lives: an interpreter of its own, so that no two of them share a dependency.

``whisperr`` is the one that this interpreter has. Every other SDK gets a virtual environment
of the same Python in the cache folder, made once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Also the current folder of all that is started: a checkout there would hide what is installed.
WORKERS = Path(__file__).resolve().parent / "workers"

PUBLISHED = "whisperr==0.2.1"
PEERS = {  # distribution: what a program imports
    "posthog": "posthog",
    "segment-analytics-python": "segment.analytics",
    "rudder-sdk-python": "rudderstack.analytics",
    "sentry-sdk": "sentry_sdk",
}

# Variables that would show one environment the packages of another, or change what is measured.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONDEVMODE")


@dataclass(frozen=True)
class Environment:
    """One SDK in one interpreter."""

    name: str  # a column of the table
    module: str  # what a program imports
    python: str
    pythonpath: str | None = None

    def variables(self) -> dict[str, str]:
        return {**_clean(), **({"PYTHONPATH": self.pythonpath} if self.pythonpath else {})}

    def python_c(self, program: str, *options: str) -> str:
        """Run a program given as text; what it wrote to stderr."""
        return subprocess.run(
            [self.python, *options, "-c", program],
            env=self.variables(),
            cwd=WORKERS,
            check=True,
            stderr=subprocess.PIPE,
            text=True,
        ).stderr

    def start(self, worker: str, **options: object) -> subprocess.Popen[str]:
        """Begin one measurement: workers/<worker>.py in a process of its own."""
        command = [self.python, str(WORKERS / f"{worker}.py"), self.module]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return subprocess.Popen(
            command, env=self.variables(), cwd=WORKERS, stdout=subprocess.PIPE, text=True
        )

    def run(self, worker: str, **options: object) -> dict[str, float]:
        """One measurement, and what it printed."""
        return finish(self.start(worker, **options))


def finish(process: subprocess.Popen[str], seconds: float = 600) -> dict[str, float]:
    """The figures that a worker printed. Raises when it failed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise SystemExit(f"a worker failed: {process.args!r}")
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def ours() -> Environment:
    """The SDK in the interpreter that runs this."""
    path = os.environ.get("PYTHONPATH")
    if path:
        path = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    version = _version(sys.executable, "whisperr", path)
    return Environment(f"whisperr {version}", "whisperr", sys.executable, path)


def published(cache: Path) -> Environment:
    """The release that everything is compared with."""
    return _installed(PUBLISHED, cache)


def peers(cache: Path) -> list[Environment]:
    """Those of the other SDKs that this Python can have."""
    found = []
    for name in PEERS:
        try:
            found.append(_installed(name, cache))
        except subprocess.CalledProcessError:
            print(f"left out, it can't be installed here: {name}", file=sys.stderr)
    return found


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "whisperr-benchmarks"


def _installed(requirement: str, cache: Path) -> Environment:
    distribution = requirement.split("==")[0]
    folder = cache / f"{sys.implementation.cache_tag}-{requirement.replace('==', '-')}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {requirement} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, requirement], check=True, env=_clean())
        complete.touch()
    version = _version(str(python), distribution, None)
    if "==" in requirement and version != requirement.split("==")[1]:
        raise SystemExit(f"{folder} holds {distribution} {version} instead of {requirement}")
    label = distribution.split("-")[0]
    return Environment(f"{label} {version}", PEERS.get(distribution, distribution), str(python))


def _version(python: str, distribution: str, path: str | None) -> str:
    program = (
        "import whisperr; print(whisperr.__version__)"
        if distribution == "whisperr"
        else f"from importlib.metadata import version; print(version({distribution!r}))"
    )
    variables = {**_clean(), **({"PYTHONPATH": path} if path else {})}
    return subprocess.run(
        [python, "-c", program],
        env=variables,
        cwd=WORKERS,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}
