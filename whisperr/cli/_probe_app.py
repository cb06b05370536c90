"""Run by the doctor in a fresh interpreter: imports the application, and says what that left.

Arguments: the file to answer in, ``module`` or ``module:attribute``. Nothing of whisperr is
imported here before the application, and gevent's events alone, which patch nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

_EARLY = ("ssl", "requests", "urllib3")  # what had better be imported after gevent has patched
_SELF = "<string>"  # the file name of this source


def main() -> None:
    answer, target = Path(sys.argv[1]), sys.argv[2]
    sys.argv[1:] = []
    at_patch: list[dict[str, Any]] = []
    _watch_gevent(at_patch)
    found: dict[str, Any] = {"gevent": None}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            module = _load(target)
        except BaseException as error:
            module, found["error"] = None, _failure_text(error)
    if at_patch:
        found["gevent"] = {
            **at_patch[0],
            "warned": any(w.category.__name__ == "MonkeyPatchWarning" for w in warned),
        }
    if "error" in found:
        _answer(answer, found)
    found["threads"] = [
        thread.name for thread in threading.enumerate() if thread is not threading.main_thread()
    ]
    found["os_threads"] = _os_threads()
    found["integrations"] = [n for n in sys.modules if n.startswith("whisperr.integrations.")]
    found["clients"] = _clients()
    found["celery"] = _celery_apps(module)
    found["rq"] = "rq" in sys.modules
    found["django"] = _django_checks()
    _answer(answer, found)


def _answer(path: Path, found: dict[str, Any]) -> NoReturn:
    """And end at once: the exit handlers of the application would send what it has queued."""
    path.write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)


def _load(target: str) -> Any:
    name, _, attributes = target.partition(":")
    module = importlib.import_module(name)
    value: Any = module
    for attribute in filter(None, attributes.partition("(")[0].split(".")):
        value = getattr(value, attribute)
    return module


def _failure_text(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if frame.filename != _SELF and "importlib" not in frame.filename
    ]
    where = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {error}{where}"


def _watch_gevent(seen: list[dict[str, Any]]) -> None:
    """Have what is imported, and how many threads run, written down when gevent patches."""
    if importlib.util.find_spec("gevent") is None:
        return
    before = set(sys.modules)
    events: Any = importlib.import_module("gevent.events")
    ours = set(sys.modules) - before

    def look(event: Any) -> None:
        if type(event).__name__ == "GeventWillPatchAllEvent":
            early = [name for name in _EARLY if name in sys.modules and name not in ours]
            seen.append({"early": early, "threads": threading.active_count()})

    events.subscribers.append(look)


def _os_threads() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    counts = [line.split()[1] for line in status.splitlines() if line.startswith("Threads:")]
    return int(counts[0]) if counts else None


def _clients() -> list[dict[str, Any]]:
    if "whisperr" not in sys.modules:
        return []
    from whisperr._client import live_clients

    return [
        {
            "ready": client.ready,
            "base_url": client._settings.base_url,
            "flush_interval": client._settings.flush_interval,
            "shutdown_timeout": client._settings.shutdown_timeout,
            "tracked": client.stats()["accepted"],
        }
        for client in live_clients()
    ]


def _celery_apps(module: Any) -> list[dict[str, Any]]:
    if "celery" not in sys.modules:
        return []
    kind: Any = importlib.import_module("celery").Celery
    apps = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    return [
        {
            "time_limit": app.conf.task_time_limit,
            "soft_time_limit": app.conf.task_soft_time_limit,
            "pool": str(app.conf.worker_pool),
        }
        for app in apps.values()
    ]


def _django_checks() -> list[dict[str, str]]:
    if "whisperr.integrations.django" not in sys.modules:
        return []
    apps: Any = importlib.import_module("django.apps").apps
    if not apps.ready:
        return []
    checks: Any = importlib.import_module("django.core.checks")
    messages = checks.run_checks(tags=["whisperr"])
    return [{"what": str(message.msg), "change": str(message.hint or "")} for message in messages]


if __name__ == "__main__":
    main()
