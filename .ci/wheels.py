"""What whisperr requires has a wheel, or is pure Python, for every CPython that it is for.

Asked of pip's resolver, without these interpreters; tox runs it (``wheels``). The platform is an old
Linux: what has a wheel there has one for newer ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomllib
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = ("manylinux_2_17_x86_64", "manylinux2014_x86_64")
TAGS = (*(f"3{minor}" for minor in range(8, 16)), "314t", "315t")


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [Requirement(line) for line in project["dependencies"]]
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(TAGS, pool.map(lambda tag: wheels(tag, required), TAGS)))
    for tag, found in results.items():
        print(f"cp{tag}: {', '.join(found) or 'NONE'}")
    failed = [f"cp{tag}" for tag, found in results.items() if not found]
    print(f"without a wheel: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def wheels(tag: str, required: list[Requirement]) -> list[str]:
    """The wheels that an interpreter gets. None: one is missing."""
    version = f"3.{tag.rstrip('t')[1:]}"
    # pip reads the markers as of the interpreter that it runs on, so they are read here.
    target = {"python_version": version, "platform_python_implementation": "CPython"}
    wanted = [each for each in required if not each.marker or each.marker.evaluate(target)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--only-binary", ":all:", "--target", "nowhere", "--report", "-"]
    command += ["--implementation", "cp", "--abi", f"cp{tag}", "--python-version", version]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += [f"{each.name}{each.specifier}" for each in wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"cp{tag}: {done.stderr}", flush=True)
        return []
    urls = [each["download_info"]["url"] for each in json.loads(done.stdout)["install"]]
    found = sorted(url.rpartition("/")[2] for url in urls)
    return found if len(found) >= len(wanted) else []


if __name__ == "__main__":
    sys.exit(main())
