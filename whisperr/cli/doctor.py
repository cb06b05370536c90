"""``whisperr doctor``: looks at the environment it runs in, and says what is wrong and what to change.

Exits with 0 if nothing is wrong, 1 if something is (``--strict``: or could be better), 2 for an
unusable option. It imports and reads what belongs to the user in processes of their own.
"""

from __future__ import annotations

import argparse
import os
from typing import Iterator

from whisperr import _console
from whisperr._settings import DEFAULT_BASE_URL, Settings, find, variable_of
from whisperr.cli import (
    _application,
    _broker,
    _environment,
    _journal_folder,
    _servers,
    _test_event,
    _versions,
)
from whisperr.cli._findings import (
    ADVICE,
    OK,
    WRONG,
    Finding,
    advice,
    as_json,
    as_text,
    without_secret,
    wrong,
)

KEY, APP, URL, JOURNAL, BROKER = map(
    variable_of, ("api_key", "app", "base_url", "journal_dir", "broker_url")
)
TIMEOUT = 10.0  # seconds
LONGEST_TIMEOUT = 600.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"The key is read from {KEY}, and never printed. Call it where your service runs: in the "
        "same folder, as the same user, with the same environment."
    )
    parser.add_argument(
        "--app",
        metavar="MODULE[:NAME]",
        type=_target,
        help="import this, in a process of its own, and look at its threads, clients and patches",
    )
    parser.add_argument(
        "--base-url", metavar="URL", help=f"of the test event ({URL}, or {DEFAULT_BASE_URL})"
    )
    parser.add_argument(
        "--no-send", action="store_true", help="send no test event, even if there is a key"
    )
    parser.add_argument("--journal-dir", metavar="DIR", help=f"look at this folder ({JOURNAL})")
    parser.add_argument(
        "--gunicorn",
        metavar="COMMAND",
        help="'gunicorn --preload ...' as you call it; its file and GUNICORN_CMD_ARGS are read anyway",
    )
    parser.add_argument("--uwsgi", metavar="FILE", help="its ini file (uwsgi.ini, if there is one)")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=TIMEOUT,
        help="for the test event, and for each import (%(default)g)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 for advice, too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    try:
        findings = without_secret(os.environ.get(KEY), list(_examine(options)))
    except ValueError as error:  # of an option
        _console.complain("whisperr doctor", str(error))
        return 2
    bad = {WRONG, ADVICE} if options.strict else {WRONG}
    status = int(any(finding.level in bad for finding in findings))
    _console.write(as_json(findings, status) if options.json else as_text(findings))
    return status


def _examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Everything there is to say. Raises ValueError for an option that can't be used."""
    settings = _settings(options)
    servers = _servers.Servers()
    yield from _versions.examine()
    yield from _environment.examine(os.environ)
    yield from _servers.gunicorn(options.gunicorn, options.timeout, servers)
    yield from _servers.uwsgi(options.uwsgi, servers)
    if options.app:
        yield from _application.examine(options.app, options.timeout, servers.preloads)
    journal = options.journal_dir or os.environ.get(JOURNAL)
    if journal:
        yield from _journal_folder.examine(journal)
    broker = _broker.settings_for(settings, options.timeout)
    package = _broker.missing_package(broker)
    if broker is not None:
        yield from _broker.examine(broker)
    if options.no_send:
        yield Finding(_test_event.ABOUT, OK, "none was sent, as you wish")
    elif isinstance(settings, Finding):
        yield settings
    elif package:
        yield Finding(_test_event.ABOUT, OK, f"none was sent, without the package {package}")
    else:
        yield from _test_event.examine(settings)


def _settings(options: argparse.Namespace) -> Settings | Finding:
    """For the test event, or why there can be none. An unusable --base-url is a ValueError."""
    if options.base_url is not None:
        try:
            find("base_url", {"base_url": options.base_url}, {})
        except ValueError as error:
            raise ValueError(f"--{error}".replace("base_url", "base-url")) from None
    if not os.environ.get(KEY) and not os.environ.get(APP):
        if os.environ.get(BROKER):
            none, how = f"neither {APP} nor {KEY} is set", f"{APP}=shop whisperr doctor"
        else:
            none, how = f"{KEY} is not set", f"{KEY}=wrk_... whisperr doctor"
        return advice(_test_event.ABOUT, f"None was sent: {none}.", how)
    try:
        return _test_event.settings_for(None, options.base_url, options.timeout)
    except ValueError as error:
        return wrong(_test_event.ABOUT, f"None can be sent: {error}.", "Correct the environment.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number of seconds") from None
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {LONGEST_TIMEOUT:g}")
    return seconds


def _target(text: str) -> str:
    module = text.partition(":")[0]
    if not all(part.isidentifier() for part in module.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is no module, and no module:name")
    return text
