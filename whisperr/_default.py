"""The default client of the process: ``whisperr.track(...)`` without making one.

Made at its first use, of what ``configure()`` was given, or of the environment.

Guarantees:
    All threads get the same client, also when several ask first at once. track() and identify()
    never raise: without a usable key the client is a disabled one, and one WARNING says why.
Lock-free: two threads may each make one, one ``dict.setdefault`` decides, and the other is dropped
    before it has a thread or a socket.
Fork: as of any client. A child that finds the parent's uses it; one that finds none makes its own.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from whisperr._client import Whisperr
from whisperr._reporting.reports import say

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

_published: dict[str, Whisperr] = {}  # "client": the one


def _takes_what_it_takes(
    maker: Callable[P, Whisperr],
) -> Callable[[Callable[..., Whisperr]], Callable[P, Whisperr]]:
    """For type checkers: the arguments are those of ``maker``."""
    return lambda function: function


@_takes_what_it_takes(Whisperr)
def configure(api_key: str | None = None, **options: Any) -> Whisperr:
    """Make the default client, of these options; those of ``Whisperr``, environment included.

    Called once, before the first ``track()``. A later call makes another client; what the one before
    holds is still delivered.

    Returns:
        The client, for ``stats()`` and the like.

    Raises:
        ValueError: An option is unusable. The default client is then as before.
    """
    client = Whisperr(api_key, **options)
    _published["client"] = client
    return client


def track(
    external_user_id: str,
    event_type: str,
    properties: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    *,
    occurred_at: datetime | None = None,
    message_id: str | None = None,
) -> None:
    """``Whisperr.track()`` of the default client."""
    _client().track(
        external_user_id,
        event_type,
        properties,
        context,
        occurred_at=occurred_at,
        message_id=message_id,
    )


def identify(
    external_user_id: str,
    *,
    traits: Mapping[str, Any] | None = None,
    email: str | None = None,
    phone: str | None = None,
    push_token: str | None = None,
    preferred_channel: str | None = None,
    channels: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """``Whisperr.identify()`` of the default client."""
    _client().identify(
        external_user_id,
        traits=traits,
        email=email,
        phone=phone,
        push_token=push_token,
        preferred_channel=preferred_channel,
        channels=channels,
    )


def flush(timeout: float | None = None) -> bool:
    """``Whisperr.flush()`` of the default client. True if there is none yet."""
    client = _published.get("client")
    return client is None or client.flush(timeout)


def _client() -> Whisperr:
    client = _published.get("client")
    return _first_client() if client is None else client


def _first_client() -> Whisperr:
    problem = ""
    try:
        mine = Whisperr()
    except Exception as error:
        problem = str(error) if isinstance(error, ValueError) else type(error).__name__
        mine = Whisperr(disabled=True)
    client = _published.setdefault("client", mine)
    if problem and client is mine:
        say(logging.WARNING, f"nothing will be sent: {problem}")
    return client
