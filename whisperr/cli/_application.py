"""The doctor imports the application, and looks at what that has left: before a fork, say."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from whisperr.cli._findings import Finding, advice, ok, wrong
from whisperr.cli._probing import probe

ABOUT = "application"
SHORT = 1.0  # seconds: a flush_interval that bounds a loss
OURS = "whisperr"  # the name of the sender's thread

_CELERY = "whisperr.integrations.celery"
_RQ = "whisperr.integrations.rq"


def examine(target: str, timeout: float, preloads: bool) -> Iterator[Finding]:
    """Import ``module`` or ``module:attribute`` in a process of its own, and look around there."""
    found, problem = probe("_probe_app", [target], timeout)
    problem = problem or found.get("error", "")
    if problem:
        yield wrong(
            ABOUT,
            f"{target} can't be imported: {problem}",
            "Name it as your server does, and call the doctor in the same folder, as the same user "
            "and with the same environment.",
        )
        yield from gevent(found.get("gevent"))
        return
    yield ok(ABOUT, f"{target} is imported")
    yield from clients(found["clients"])
    yield from threads(found, preloads)
    yield from gevent(found["gevent"])
    yield from celery(found)
    yield from rq(found)
    for message in found["django"]:
        yield wrong("Django", message["what"], message["change"])


def clients(found: list[dict[str, Any]]) -> Iterator[Finding]:
    """Which clients there are after the import."""
    if not found:
        yield ok(ABOUT, "it makes no client at import")
    for client in found:
        if not client["ready"]:
            yield advice(
                ABOUT, "It makes a client that is disabled.", "Is that meant in this environment?"
            )
            continue
        yield ok(ABOUT, f"it makes a client for {client['base_url']}")
        if client["tracked"]:
            yield advice(
                ABOUT,
                f"Events tracked while it is imported: {client['tracked']}. Every process that imports "
                "it does that.",
                "Track where something happens, not at import.",
            )


def threads(found: Mapping[str, Any], preloads: bool) -> Iterator[Finding]:
    """More than one thread before a fork: the others are missing in the child, their locks not."""
    names, count = list(found["threads"]), found["os_threads"] or 1 + len(found["threads"])
    others = [name for name in names if name != OURS]
    unnamed = max(0, count - 1 - len(names))
    if not names and not unnamed:
        yield ok(ABOUT, "one thread after the import: it may be forked")
        return
    if OURS in names:
        yield advice(
            ABOUT,
            "Since it tracks at import, the sender's thread runs before a fork. whisperr is made "
            "for that; Python 3.12 and later warn.",
            "Track where something happens, not at import.",
        )
    listed = ", ".join([*others, *([f"{unnamed} of no name"] if unnamed else [])])
    if not listed:
        return
    what = (
        f"Threads run after the import ({listed}): in a process that is forked then they are "
        "missing, and a lock that one of them holds stays locked for ever."
    )
    change = "Start them in the worker: gunicorn's post_worker_init, Celery's worker_process_init."
    if preloads:
        yield wrong(ABOUT, f"{what} Your server forks it so.", change)
    else:
        yield advice(ABOUT, f"{what} No preloading was found here.", change)


def gevent(found: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Whether gevent patched before others took what it patches."""
    if found is None:
        return
    if found["threads"] > 1:
        yield wrong(
            "gevent",
            f"{found['threads']} threads ran already when it patched: an import that is under way then "
            "fails, and they wait without yielding.",
            "Patch first: `from gevent import monkey; monkey.patch_all()` at the top of the module.",
        )
    early = [name for name in found["early"] if name != "ssl"]
    if found["warned"] or "ssl" in found["early"]:
        names = ", ".join(early) or "ssl"
        yield wrong(
            "gevent",
            f"It patches after the import of {names}: HTTPS of others may recurse without end.",
            "Patch first: `from gevent import monkey; monkey.patch_all()` at the top of the module.",
        )
    elif found["threads"] <= 1:
        yield ok("gevent", "it patches first")


def celery(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether pool children deliver, and what a hard time limit costs."""
    if not found["celery"]:
        return
    if _CELERY not in found["integrations"]:
        yield wrong(
            "Celery",
            "The children of a prefork pool run no exit handler: each loses what it has queued.",
            f"Beside the app: import {_CELERY}",
        )
    else:
        yield ok("Celery", f"{_CELERY} is imported")
    slow = [client for client in found["clients"] if client["flush_interval"] > SHORT]
    for app in found["celery"]:
        if app["time_limit"] and (slow or not found["clients"]):
            yield (wrong if slow else advice)(
                "Celery",
                f"task_time_limit is {app['time_limit']} s: Celery then gives a child a tenth of a "
                "second, and what is younger than flush_interval is lost.",
                "flush_interval=0.5 for the client, and a task_soft_time_limit before the hard one.",
            )


def rq(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the horses of its workers deliver can't be seen: the class is on their command line."""
    if not found["rq"]:
        return
    if _RQ in found["integrations"]:
        yield ok("rq", f"{_RQ} is imported")
    else:
        yield advice(
            "rq",
            "The work horse of a job runs no exit handler: it loses what the job tracked, unless "
            "the worker's class is one of ours.",
            f"rq worker -w {_RQ}.Worker",
        )
