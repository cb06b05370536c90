"""Where each SDK lives: an interpreter of its own, so that no two of them share a dependency.

``ours`` is the whisperr of the interpreter that runs this. Every peer gets a virtual
environment of the same Python in the cache folder, installed from PyPI once, and so does
matplotlib, which draws the plots.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

# Also the current folder of all that is started: a checkout there would hide what is installed.
WORKERS = Path(__file__).resolve().parent / "workers"

OURS, JOURNAL, PUBLISHED, EMPTY = "ours", "journal", "0.2.1", "empty"
REQUIREMENTS = {  # the first is the one whose version is shown
    PUBLISHED: ["whisperr==0.2.1"],
    "opentelemetry": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
    "segment": ["segment-analytics-python"],
    "posthog": ["posthog"],
    "sentry": ["sentry-sdk"],
}
PEERS = tuple(REQUIREMENTS)

# Variables that would show one environment the packages of another, or change what is measured.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONDEVMODE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Environment:
    """One column of the tables: one SDK in one interpreter."""

    key: str
    name: str  # the column's head
    sdk: str  # see workers/sdks.py
    python: str
    pythonpath: str | None = None
    packages: dict[str, str] = field(default_factory=dict, compare=False)

    def start(self, worker: str, **options: object) -> subprocess.Popen[str]:
        """Begin one measurement: workers/<worker>.py in a process of its own."""
        command = [self.python, str(WORKERS / f"{worker}.py"), self.sdk]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return subprocess.Popen(
            command,
            env=_variables(self.pythonpath, _PROXIES),
            cwd=WORKERS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def empty() -> Environment:
    """The empty function: what the harness itself costs."""
    return Environment(EMPTY, "empty function", "none", sys.executable)


def ours() -> Environment:
    """The SDK in the interpreter that runs this."""
    path = os.environ.get("PYTHONPATH")
    if path:
        path = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    version = _ask(sys.executable, "import whisperr; print(whisperr.__version__)", path)
    return _described(OURS, f"whisperr {version}", "whisperr", sys.executable, path)


def with_journal(environment: Environment) -> Environment | None:
    """The same one with a journal; None where the client has no such option."""
    program = (
        "import inspect, whisperr\n"
        "print('journal_dir' in inspect.signature(whisperr.Whisperr).parameters)"
    )
    if _ask(environment.python, program, environment.pythonpath) != "True":
        return None
    return Environment(
        JOURNAL,
        f"{environment.name}, journal",
        environment.sdk,
        environment.python,
        environment.pythonpath,
    )


def installed(names: list[str], cache: Path) -> tuple[list[Environment], dict[str, str]]:
    """The peers of these names, and why those that are missing can't be had here."""
    found, missing = [], {}
    with ThreadPoolExecutor(4) as pool:
        made = {name: pool.submit(_peer, name, cache) for name in names}
    for name, future in made.items():
        try:
            found.append(future.result())
        except subprocess.CalledProcessError as error:
            missing[name] = (error.stderr or str(error)).strip().splitlines()[-1]
    return found, missing


def matplotlib(cache: Path) -> str:
    """The interpreter that draws. Raises CalledProcessError where it can't be installed."""
    return _virtual(cache, "matplotlib", ["matplotlib"])


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "whisperr-benchmarks"


def _peer(name: str, cache: Path) -> Environment:
    requirements = REQUIREMENTS[name]
    python = _virtual(cache, name, requirements)
    distribution, _, wanted = requirements[0].partition("==")
    sdk = distribution if name == PUBLISHED else name
    environment = _described(name, "", sdk, python, None)
    version = environment.packages[distribution]
    if wanted and version != wanted:
        raise SystemExit(f"{python} has {distribution} {version} instead of {wanted}")
    return _described(name, f"{sdk} {version}", sdk, python, None)


def _virtual(cache: Path, name: str, requirements: list[str]) -> str:
    """The python of a virtual environment of this interpreter's version, made once."""
    folder = cache / f"{sys.implementation.cache_tag}-{name}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
        make = [sys.executable, "-m", "venv", "--clear", str(folder)]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (make, [*install, *requirements]):
            subprocess.run(command, check=True, env=_variables(), capture_output=True, text=True)
        complete.touch()
    return str(python)


def _described(key: str, name: str, sdk: str, python: str, path: str | None) -> Environment:
    program = (
        "import json\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({d.metadata['Name']: d.version for d in distributions()}))"
    )
    packages = dict(sorted(json.loads(_ask(python, program, path)).items()))
    return Environment(key, name, sdk, python, path, packages)


def _ask(python: str, program: str, path: str | None = None) -> str:
    return subprocess.run(
        [python, "-c", program],
        env=_variables(path),
        cwd=WORKERS,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def _variables(pythonpath: str | None = None, without: tuple[str, ...] = ()) -> dict[str, str]:
    left_out = {*_FOREIGN, *without}
    variables = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**variables, **({"PYTHONPATH": pythonpath} if pythonpath else {})}
