"""``whisperr relay``: deliver what clients have published to a broker, until it is told to stop.

Keys come from a file or from the environment, never from the command line, which others can read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Mapping, Sequence

from whisperr import _console
from whisperr._settings import (
    DEFAULT_BASE_URL,
    BrokerUrl,
    Settings,
    check_timeout,
    find,
    make_settings,
)

if TYPE_CHECKING:
    from whisperr._relay.interfaces import Broker, Letter
    from whisperr._relay.relay import Relay, Times

_STOPPING = ("SIGTERM", "SIGINT", "SIGHUP")
_LETTER_COLUMNS = ("id", "app", "kind", "count", "bytes", "age", "status", "reason")
_APP_COLUMNS = ("app", "messages", "held", "age", "relays")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'Keys: --keys names a TOML file of lines like shop = "wrk_..."; WHISPERR_KEY_SHOP is the '
        "key of the app shop, WHISPERR_API_KEY that of messages that name no app."
    )
    _broker_argument(parser, os.environ.get("WHISPERR_BROKER_URL"))
    parser.add_argument(
        "--declare",
        choices=("classic", "quorum"),
        help="make the queues in a RabbitMQ, of this type, if they are not there",
    )
    parser.add_argument(
        "--base-url",
        default=os.environ.get("WHISPERR_BASE_URL") or DEFAULT_BASE_URL,
        help=f"(default: $WHISPERR_BASE_URL, or {DEFAULT_BASE_URL})",
    )
    _keys_argument(parser, None)
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        help="serve /metrics and /healthz there (default: off; HOST: 127.0.0.1)",
    )
    _seconds(parser, "--linger", 1.0, "a message waits for others to fill a request")
    _seconds(parser, "--claim-after", 30.0, "take what a relay holds that gave no sign of life for")
    _seconds(parser, "--stop-timeout", 10.0, "at the end: deliver what is held, at most")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    status = actions.add_parser("status", help="what waits, and which relays are there")
    _broker_argument(status, argparse.SUPPRESS)
    _keys_argument(status, argparse.SUPPRESS)
    status.add_argument("--json", action="store_true", help="for programs")
    letters = actions.add_parser("dead-letters", help="what can't be delivered, and why")
    _letter_arguments(letters.add_subparsers(dest="what", metavar="WHAT", required=True))


def _letter_arguments(whats: Any) -> None:
    for name, (_, summary) in _WHATS.items():
        what = whats.add_parser(name, help=summary, description=f"{name}: {summary}.")
        _broker_argument(what, argparse.SUPPRESS)
        if name == "list":
            what.add_argument("--json", action="store_true", help="for programs")
            continue
        what.add_argument("ids", nargs="*", metavar="ID", help="only these")
        what.add_argument("--all", action="store_true", help="all that there are")
        if name == "purge":
            what.add_argument("--yes", action="store_true", help="do it")


def _broker_argument(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--broker-url",
        metavar="URL",
        default=default,
        help="(default: $WHISPERR_BROKER_URL, the place for a URL with a password)",
    )


def _keys_argument(parser: argparse.ArgumentParser, default: Any) -> None:
    about = "the keys, by the name of the app"
    parser.add_argument("--keys", metavar="FILE", default=default, help=about)


def _seconds(parser: argparse.ArgumentParser, name: str, default: float, about: str) -> None:
    parser.add_argument(
        name, type=float, default=default, metavar="SECONDS", help=f"{about} (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    if not options.broker_url:
        return _failed("name the broker: --broker-url, or WHISPERR_BROKER_URL", 2)
    from whisperr._relay.brokers import broker_at

    try:
        url = find("broker_url", {"broker_url": options.broker_url}, {}).value
        try:
            broker = broker_at(url, options.declare)
        except ImportError as error:
            name = url.package
            return _failed(
                f"the relay needs the package {name}: pip install 'whisperr[{name}]' ({error})"
            )
        return _run(options, url, broker)
    except ValueError as error:
        return _failed(str(error), 2)


def _run(options: argparse.Namespace, url: BrokerUrl, broker: Broker) -> int:
    from whisperr._broker.errors import BrokerError

    try:
        if options.action == "status":
            return _status(options, url, broker)
        if options.action == "dead-letters":
            return _WHATS[options.what][0](options, broker)
        return _relay(options, url, broker)
    except BrokerError as error:
        from whisperr._delivery.answers import explain_broker

        found = explain_broker(error, url.place)
        return _failed(f"{found.what} {found.change}")
    finally:
        broker.close()


def _failed(message: str, status: int = 1) -> int:
    _say(message)
    return status


def _say(message: str) -> None:
    _console.complain("whisperr relay", message)


# --- the relay itself


def _relay(options: argparse.Namespace, url: BrokerUrl, broker: Broker) -> int:
    from whisperr._relay.keys import find_keys
    from whisperr._relay.relay import Relay

    keys = find_keys(options.keys, os.environ)
    relay = Relay(broker, url.place, _settings_by_app(keys, options.base_url), _times(options))
    observed = _observed(relay, broker, options.listen)
    _log_to_stderr()
    for name in _STOPPING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: relay.stop())
    apps = ", ".join(sorted(app or "(no name)" for app in keys))
    _console.write(f"from {url.place} to {options.base_url}, as {relay.consumer}: {apps}")
    _console.flush()
    with observed:
        went_well = relay.run()
    _console.write(_summary(relay))
    return 0 if went_well else 1


def _observed(relay: Relay, broker: Broker, address: str | None) -> ContextManager[object]:
    """For as long as it runs. ValueError: it can't be, and nothing has been read from the broker yet."""
    if address is None:
        return contextlib.nullcontext()
    try:
        from whisperr._relay.http import Endpoint
    except ImportError as error:
        raise ValueError(
            "--listen needs the packages prometheus_client, starlette and uvicorn: "
            f"pip install 'whisperr[relay]' ({error})"
        ) from None
    endpoint = Endpoint(relay, broker, address)
    _console.write(f"metrics at {endpoint.url}/metrics, health at {endpoint.url}/healthz")
    return endpoint


def _summary(relay: Relay) -> str:
    delivered = sum(lane.delivered for lane in relay.lanes)
    dead = sum(lane.dead for lane in relay.lanes)
    return f"{delivered} delivered, {dead} dead letters"


def _settings_by_app(keys: Mapping[str, Any], base_url: str) -> dict[str, Settings]:
    """One for each key: what the environment says of requests holds for a relay, too."""
    direct = {"base_url": base_url, "broker_url": None, "app": None, "disabled": False}
    without_client = {"on_error": None, "before_send": None, "redact": (), "journal_dir": None}
    given = {**direct, **without_client}
    return {app: make_settings(key.reveal(), given) for app, key in keys.items()}


def _times(options: argparse.Namespace) -> Times:
    from whisperr._relay.relay import Times

    claim_after = check_timeout("--claim-after", options.claim_after)
    if claim_after < 1:
        raise ValueError("--claim-after must be at least 1 second")
    linger = check_timeout("--linger", options.linger)
    return Times(linger, claim_after, check_timeout("--stop-timeout", options.stop_timeout))


def _log_to_stderr() -> None:
    """What a client says in its application's log goes to standard error here."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("whisperr")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


# --- status


def _status(options: argparse.Namespace, url: BrokerUrl, broker: Broker) -> int:
    from whisperr._relay.keys import find_keys

    # A RabbitMQ is asked for the queues of the apps that have a key here; a Redis knows all apps.
    found = broker.status(find_keys(options.keys, os.environ) if url.is_amqp else ())
    if options.json:
        _console.write(json.dumps(found, indent=2))
        return 0
    rows = [{**row, "relays": _number(row["relays"])} for row in found["apps"]]
    _write_table(_APP_COLUMNS, rows, "no client has published anything")
    _console.write(f"dead letters: {found['dead_letters']}")
    return 0


def _number(relays: Any) -> int:
    """A Redis names them, a RabbitMQ counts them."""
    return len(relays) if isinstance(relays, list) else int(relays)


def _write_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], nothing: str) -> None:
    if not rows:
        _console.write(nothing)
        return
    shown = [tuple(_shown(name, row[name]) for name in columns) for row in rows]
    _console.write_table([columns, *shown])


def _shown(name: str, value: Any) -> str:
    if name == "age":
        return "-" if value is None else f"{value:.0f} s"
    return "-" if value in (None, "") else str(value)


# --- dead letters


def _list(options: argparse.Namespace, broker: Broker) -> int:
    rows = [letter.row() for letter in broker.letters()]
    if options.json:
        _console.write(json.dumps(rows, indent=2))
    else:
        _write_table(_LETTER_COLUMNS, rows, "nothing: all was delivered, or waits")
    return 0


def _show(options: argparse.Namespace, broker: Broker) -> int:
    wanted = _wanted(options, broker)
    _console.write_json_lines(_whole(letter) for letter in wanted)
    return 0


def _whole(letter: Letter) -> dict[str, Any]:
    body = letter.message.get(b"body", b"")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = body.decode("utf-8", "replace")
    return {**letter.row(), "detail": letter.about.get("detail", ""), "body": parsed}


def _send(options: argparse.Namespace, broker: Broker) -> int:
    wanted = _wanted(options, broker)
    sent = sum(broker.send_again(letter) for letter in wanted)
    _console.write(f"{sent} of {len(wanted)} dead letters are messages again")
    return 0 if sent == len(wanted) else 1


def _purge(options: argparse.Namespace, broker: Broker) -> int:
    wanted = _wanted(options, broker)
    if not options.yes:
        _console.write(f"{len(wanted)} dead letters: would be deleted; add --yes to do it")
        return 1
    for letter in wanted:
        broker.delete(letter)
    _console.write(f"{len(wanted)} dead letters: deleted")
    return 0


def _wanted(options: argparse.Namespace, broker: Broker) -> list[Letter]:
    """ValueError: none were named, or one of them is not there."""
    if options.all == bool(options.ids):
        raise ValueError("name dead letters by their ids, or all of them by --all")
    letters = list(broker.letters())
    if options.all:
        return letters
    found = {letter.id: letter for letter in letters}
    missing = [name for name in options.ids if name not in found]
    if missing:
        raise ValueError(f"there is no dead letter {missing[0]}")
    return [found[name] for name in options.ids]


_What = Callable[[argparse.Namespace, "Broker"], int]
_WHATS: dict[str, tuple[_What, str]] = {
    "list": (_list, "one line for each, without what is in it"),
    "show": (_show, "all of it, as JSON lines: it may hold personal data"),
    "send": (_send, "put them back: the relays try again"),
    "purge": (_purge, "delete them"),
}
