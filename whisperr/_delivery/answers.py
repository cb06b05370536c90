"""What an answer means, or that there is none: in words, and with what to change.

The one place for such words. The doctor, Django's ``whisperr_test`` and ``whisperr.explain`` say
them to people, a delivery pass to the log. They repeat nothing of what a server said, and no value
of a variable: both may hold secrets or personal data.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from whisperr._delivery.outcome import Outcome, outcome_of
from whisperr._errors import WhisperrError
from whisperr._settings import BROKER_SCHEMES

_OF_A_KEY = re.compile(r"key|token|credential|auth|forbidden|permission", re.IGNORECASE)
_FIELD = re.compile(
    r"(?<![\w$])(?:external_user_id|event_type|occurred_at|properties|context|\$message_id|traits"
    r"|preferred_channel|channels|channel|address|opted_in|verified)(?!\w)"
)
_CAUSE = re.compile(r"\((\w+)\)")  # in the message of an error


class Explanation(NamedTuple):
    """A sentence that says what happened, and one that says what to change.

    quotable: The words of the server, or of the error, may be shown beside it.
    """

    what: str
    change: str
    quotable: bool = True


def explain(error: WhisperrError, base_url: str = "the base URL") -> str:
    """What an error means and what to change, in one or two sentences.

    For ``on_error`` and for people: it repeats neither ``error.detail`` nor a key, and may be
    logged.

    Args:
        error: What ``on_error`` was called with.
        base_url: Where the client sends, to be named in the sentence.
    """
    if error.status is not None:
        found = explain_answer(error.status, error.detail, base_url)
    elif error.type == "retry_exhausted":
        cause = _CAUSE.search(error.message)
        found = explain_no_answer(
            cause.group(1) if cause else "no answer", error.detail, base_url, None
        )
    else:
        return error.message
    return f"{found.what} {found.change}"


# --- answers


def explain_answer(status: int, detail: str | None, url: str) -> Explanation:
    """What a status means that is not the acceptance of an event."""
    outcome = outcome_of(status)
    if outcome is Outcome.AUTH:
        return _rejected(status, detail or "", url)
    if status == 407:
        return Explanation(
            f"The proxy before {url} asks for a user and a password (status 407).",
            f"Put them into the URL in {proxy_variable(url) or 'the proxy variable'}.",
        )
    if outcome in (Outcome.OK, Outcome.ELSEWHERE):  # and not that acceptance: a page
        return Explanation(
            f"Something else than the ingestion API answers at {url} (status {status}).",
            "Is WHISPERR_BASE_URL right? A gateway, a filter or a log-in page may be in between.",
        )
    if outcome is Outcome.REDIRECT:
        return Explanation(
            f"{url} redirects (status {status}), which is never followed: the key would travel.",
            "Set WHISPERR_BASE_URL to where the API is.",
        )
    if outcome is Outcome.RETRY:
        return Explanation(
            f"The server can't take events now (status {status}). Clients keep them.",
            "Try again later; if it stays so, ask those who run it.",
        )
    if outcome is Outcome.REFUSE:
        return _refused(status, detail or "")
    return Explanation(
        f"The server refused the request for good (status {status}): events are dropped.",
        f"Is WHISPERR_BASE_URL right? Is {url} the ingestion API? A path behind it is rarely right.",
    )


def rejection(status: int | None, detail: str | None) -> str:
    """Why a pass ended with 401 or 403: a part of a sentence, for the log."""
    words = detail or ""
    if status == 403 and _is_host_rule(words):
        return "the sandbox does not answer under this host name (status 403, see --allow-host)"
    if status == 403 and _is_page(words):
        return "something before the service refused the request with a page of its own, status 403"
    return f"the key was rejected with status {status}"


def named_field(detail: str | None) -> str | None:
    """The first field of ours that a server's words name. Nothing else of them may be repeated."""
    found = _FIELD.search(detail or "")
    return found.group() if found else None


def _rejected(status: int, detail: str, url: str) -> Explanation:
    if status == 403 and _is_host_rule(detail):
        return Explanation(
            f"The sandbox at {url} does not answer under this host name (status 403). The key is "
            "not the reason.",
            "Use the address that it printed, or start it with --allow-host and this name.",
        )
    if status == 403 and _is_page(detail):
        return Explanation(
            f"Something before {url} refused the request (status 403) with a page of its own. The "
            "key is not the reason.",
            "Does a firewall, a proxy or a gateway keep this machine out?",
        )
    if status == 403 and detail and not _OF_A_KEY.search(detail):
        return Explanation(
            f"The key was rejected (status {status}), or this machine is not let in: the server is "
            "there.",
            "Read what the server says. WHISPERR_API_KEY must be the ingestion key of one of your "
            "apps, wrk_...",
        )
    return Explanation(
        f"The key was rejected (status {status}): the server is there.",
        "Set WHISPERR_API_KEY to the ingestion key of one of your apps, wrk_...",
    )


def _is_host_rule(detail: str) -> bool:
    return "header Host:" in detail


def _is_page(detail: str) -> bool:
    return detail.lstrip().startswith("<")


def _refused(status: int, detail: str) -> Explanation:
    change = "WHISPERR_BASE_URL may be that of another API, or a proxy has changed the request."
    if "occurred_at" in detail:
        change = (
            "Set the clock of this machine: it is more than 5 minutes ahead, or 30 days behind. Or "
            "give an occurred_at within these limits."
        )
    return Explanation(
        f"The server refused the event (status {status}): events are dropped.", change
    )


# --- no answer


def proxy_variable(url: str) -> str:
    """The variable of the environment that names the proxy for this URL; "" without one."""
    from urllib.request import proxy_bypass  # here: it is heavy, and few need it

    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return ""
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    return _first_set([name for low in names for name in (low, low.upper())])


def ca_variable(url: str) -> str:
    """The variable that names the file of authorities for this URL; "" without one."""
    if urlsplit(url).scheme != "https":
        return ""
    return _first_set(["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])


def _first_set(names: list[str]) -> str:
    return next((name for name in names if os.environ.get(name)), "")


def explain_no_answer(
    error: str, detail: str | None, url: str, timeout: float | None
) -> Explanation:
    """Why no answer came. ``error``: the type of what was raised; ``timeout``: in seconds."""
    if error in _OF_BROKERS:
        what, change = _OF_BROKERS[error]
        place = url if url.partition(":")[0] in BROKER_SCHEMES else "broker_url"
        return Explanation(what.format(place=place), change, False)  # it may repeat a password
    text = f"{error} {detail or ''}"
    proxy = proxy_variable(url)
    within = "in time" if timeout is None else f"within {timeout:g} s"
    names = {
        "url": url,
        "within": within,
        "proxy": proxy or "the environment",
        "ca": ca_variable(url) or "REQUESTS_CA_BUNDLE",
    }
    rows = [*(_OF_PROXIES if proxy else ()), *_OF_ALL]
    for marks, what, change in rows:
        if any(mark in text for mark in marks):
            is_quotable = (marks, what, change) not in _OF_PROXIES
            return Explanation(what.format(**names), change.format(**names), is_quotable)
    return Explanation(f"{url} can't be reached ({error}).", "Is WHISPERR_BASE_URL right?")


def explain_broker(error: Exception, place: str) -> Explanation:
    """What a broker has against it. ``error``: a BrokerError; ``place``: without a password."""
    return explain_no_answer(type(error).__name__, None, place, None)


# The type of a broker's error -> what happened, what to change.
_OF_BROKERS = {
    "BrokerUnreachable": (
        "The broker at {place} can't be reached, or closed the connection.",
        "Is WHISPERR_BROKER_URL right, and is the broker running? Is that its port for TLS, or the one without?",
    ),
    "BrokerTimeout": (
        "The broker at {place} does not answer in time.",
        "Is it the right port? Is the broker overloaded, or frozen?",
    ),
    "BrokerLogin": (
        "The broker at {place} does not let this user do that.",
        "Correct the user and the password in WHISPERR_BROKER_URL, or the rights of that user.",
    ),
    "BrokerFull": (
        "The broker at {place} has no memory left, or its queue is full.",
        "Does `whisperr relay` run? `whisperr relay status` says what waits. Or raise the limit.",
    ),
    "BrokerAlarm": (
        "The broker at {place} takes nothing: it has too little memory or disk, and says so.",
        "Does `whisperr relay` run? `whisperr relay status` says what waits. Or look at its log.",
    ),
    "ComesAgain": (
        "The connection to the broker at {place} broke: it delivers again what was not settled.",
        "If it stays so, look at its log.",
    ),
    "NoQueue": (
        "The broker at {place} has no queue for these messages.",
        "Start `whisperr relay --declare quorum` (or classic) once: it makes the queues.",
    ),
    "BrokerReadOnly": (
        "The broker at {place} takes no writes: it is a replica, or its disk is full.",
        "Name the primary in WHISPERR_BROKER_URL, or look at the broker's log.",
    ),
    "BrokerBusy": ("The broker at {place} is starting.", "Wait; if it stays so, look at its log."),
    "BrokerRefusal": (
        "The broker at {place} refused the command.",
        "Has it the virtual host, or the database, that WHISPERR_BROKER_URL ends with? Is it a "
        "RabbitMQ, or a Redis 6.2 or later? Are these names used by nothing else there? "
        "Were the queues made with other arguments?",
    ),
}

# Parts of the error's type or text -> what happened, what to change. The first that fits. An error
# may repeat the URL of a proxy, which may hold a password: it is not quoted beside these.
_OF_PROXIES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("Missing dependencies for SOCKS",),
        "The proxy in {proxy} is a SOCKS proxy, for which a package is missing.",
        "pip install 'requests[socks]', or correct {proxy}, or list the host in NO_PROXY.",
    ),
    (
        (
            "InvalidProxyURL",
            "InvalidURL",
            "InvalidSchema",
            "LocationParseError",
            "ProxySchemeUn",
            "UnicodeError",
            "ValueError",
        ),
        "The proxy in {proxy} is not the URL of a proxy.",
        "Correct {proxy}: http://host:port. Or list the host in NO_PROXY.",
    ),
    (
        ("ProxyError", "SOCKSHTTP", "SOCKSConnection", "SocksHTTP"),
        "The proxy in {proxy}, between this machine and {url}, can't be used.",
        "Correct {proxy}, or list the host in NO_PROXY.",
    ),
)
_OF_ALL: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("ProxyError",),
        "The proxy between this machine and {url} can't be used.",
        "Correct the proxy in the environment, or list the host in NO_PROXY.",
    ),
    (
        ("TLS CA certificate bundle", "NO_CERTIFICATE_OR_CRL_FOUND", "no certificate or crl found"),
        "The file of certificate authorities in {ca} is missing, or is none.",
        "Correct {ca}, or unset it: without it the authorities of certifi are taken.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "The certificate of {url} is not trusted.",
        "Is it the right host? Behind a proxy that reads TLS, or with a certificate of your own, "
        "name its authority: REQUESTS_CA_BUNDLE=/path/to/ca.pem",
    ),
    (
        ("SSLError",),
        "No TLS connection to {url} could be made: is there plain HTTP, perhaps?",
        "Is https:// and the port right in WHISPERR_BASE_URL?",
    ),
    (
        ("ConnectTimeout",),
        "No connection to {url} {within}: something drops the packets.",
        "Does a firewall let this machine out? Is WHISPERR_BASE_URL right?",
    ),
    (
        ("ReadTimeout",),
        "{url} took the request, and has not answered {within}.",
        "Is it the right port? If it is only slow, raise request_timeout.",
    ),
    (
        ("NameResolutionError", "Name or service not known", "getaddrinfo"),
        "The host of {url} has no address: the name can't be looked up.",
        "Is WHISPERR_BASE_URL right? Does this machine have a name service?",
    ),
    (
        ("Connection refused", "Errno 111", "Errno 61", "WinError 10061"),
        "Nothing listens at {url}.",
        "Is the host and the port of WHISPERR_BASE_URL right, and is the server running?",
    ),
    (
        ("Connection aborted", "RemoteDisconnected", "ConnectionResetError"),
        "{url} closed the connection without an answer.",
        "Is it an HTTP server? Is https:// missing in WHISPERR_BASE_URL?",
    ),
)
