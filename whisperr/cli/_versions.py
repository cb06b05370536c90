"""The doctor looks at the interpreter and at the versions of what whisperr works with."""

from __future__ import annotations

import datetime
import multiprocessing
import platform
import re
import sys
from importlib import metadata
from typing import Iterator, NamedTuple

from whisperr import _atomic
from whisperr._encoding import encoders
from whisperr.cli._findings import Finding, advice, ok, wrong

# Until when the makers of Python correct errors: the last month of each.
_ENDS = {
    (3, 8): (2024, 10),
    (3, 9): (2025, 10),
    (3, 10): (2026, 10),
    (3, 11): (2027, 10),
    (3, 12): (2028, 10),
    (3, 13): (2029, 10),
    (3, 14): (2030, 10),
    (3, 15): (2031, 10),
}
_NEEDED = ("requests", "urllib3")
_KNOWN = (*_NEEDED, "gunicorn", "celery", "django", "starlette", "uvicorn")
_NO_LIMIT = ("gevent", "uvicorn-worker", "uWSGI", "pyuwsgi")  # works with every one that we met
_REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)")
_SPECIFIER = re.compile(r"(>=|<)\s*([\d.]+)")


class Supported(NamedTuple):
    """Of our own metadata: what we need and where we are tested."""

    pythons: tuple[tuple[int, int], ...]
    limits: dict[str, list[tuple[str, tuple[int, ...]]]]  # by name: operators and releases


def installed(name: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The numbers in front of a version: (2, 0, 30) of ``2.0.30.post1``."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def examine() -> Iterator[Finding]:
    """The interpreter, then the packages."""
    supported = _supported()
    yield from interpreter(sys.version_info[:2], supported.pythons, datetime.date.today())
    if not _atomic.HOLDS:
        yield wrong(
            "Python",
            "It runs without its global lock, and without what whisperr's queue relies on then.",
            "Use CPython 3.14.7 or later, or the ordinary build, or set PYTHON_GIL=1.",
        )
    yield from children(multiprocessing.get_all_start_methods()[0])
    for name in _KNOWN:
        version = installed(name)
        if version is not None:
            yield package(name, version, supported.limits.get(name, []))
        elif name in _NEEDED:
            yield wrong("packages", f"{name} is missing.", "pip install --upgrade whisperr")
    for name in _NO_LIMIT:
        version = installed(name)
        if version is not None:
            yield ok("packages", f"{name} {version}")
    yield encoder(encoders.NAME)


def interpreter(
    version: tuple[int, ...], tested: tuple[tuple[int, int], ...], today: datetime.date
) -> Iterator[Finding]:
    """Whether whisperr is tested on it, and whether its makers still correct it."""
    minor = (version[0], version[1])
    name = f"{platform.python_implementation()} {platform.python_version()}"
    text = "{}.{}".format(*minor)
    if tested and minor not in tested:
        newest = "{}.{}".format(*max(tested))
        yield advice(
            "Python",
            f"{name}: whisperr is not tested on {text}.",
            f"Use {newest}, or look for a newer whisperr.",
        )
    else:
        yield ok("Python", f"{name} on {platform.system()}, {sys.executable}")
    ends = _ENDS.get(minor)
    if ends is not None and (today.year, today.month) > ends:
        yield advice(
            "Python",
            f"Python {text} gets no security fixes since {ends[1]}/{ends[0]}.",
            "Upgrade it when you can; whisperr works on it.",
        )


def children(start_method: str) -> Iterator[Finding]:
    """What the way changes in which ``multiprocessing`` starts a child, unless it is told another."""
    if start_method == "forkserver":
        yield ok(
            "Python",
            "multiprocessing starts children by a fork server, which imports the main module: what is "
            'tracked there outside of `if __name__ == "__main__":` is tracked once more',
        )


def package(name: str, version: str, limits: list[tuple[str, tuple[int, ...]]]) -> Finding:
    """Whether a version lies within what our metadata ask for."""
    for operator, limit in limits:
        fits = release(version) >= limit if operator == ">=" else release(version) < limit
        if not fits:
            wanted = ", ".join(f"{op}{'.'.join(map(str, numbers))}" for op, numbers in limits)
            return wrong(
                "packages",
                f"{name} {version}: whisperr needs {wanted}.",
                f"pip install '{name}{wanted.replace(' ', '')}'",
            )
    return ok("packages", f"{name} {version}")


def _supported() -> Supported:
    try:
        about = metadata.metadata("whisperr")
        requires = metadata.requires("whisperr") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return Supported((), {})
    pythons = re.findall(r"Python :: 3\.(\d+)", "\n".join(about.get_all("Classifier") or []))
    limits: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for line in requires:
        found = _REQUIREMENT.match(line)
        if found is not None:
            parts = _SPECIFIER.findall(found.group(2))
            limits[found.group(1).lower()] = [(op, release(number)) for op, number in parts]
    return Supported(tuple((3, int(minor)) for minor in pythons), limits)


def encoder(name: str) -> Finding:
    """What encodes the events."""
    if name == "json":
        return advice(
            "packages",
            "orjson and msgspec are missing: the standard library encodes events, which takes longer.",
            "pip install orjson, or msgspec, where there is a wheel for this platform.",
        )
    return ok("packages", f"{name} {installed(name)}, which encodes events")
