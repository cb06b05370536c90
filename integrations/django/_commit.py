"""Events that stand or fall with a database transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Mapping

from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction

from whisperr.integrations.django._calls import track_call
from whisperr.integrations.django._client import get_client, report_lost


def track_on_commit(
    external_user_id: str,
    event_type: str,
    properties: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    *,
    occurred_at: datetime | None = None,
    message_id: str | None = None,
    using: str | None = None,
) -> None:
    """``get_client().track()``, once the current transaction commits; never, if it is rolled back.

    Takes its snapshot and its time now. Outside ``atomic()``, and in an event loop, it tracks at
    once. Never raises: in a transaction of ``set_autocommit(False)``, whose end nobody tells, the
    event is reported as lost.

    The other arguments are those of ``Whisperr.track()``.

    Args:
        using: The alias of the database whose transaction is meant, the default one if not given.
    """
    call = track_call(event_type, properties, context, occurred_at, message_id)
    try:
        if _in_transaction(using):
            kept = call.kept()
            transaction.on_commit(lambda: kept.send(get_client(), external_user_id), using=using)
            return
    except Exception as error:  # set_autocommit(False): only atomic() tells of its end
        message = f"lost 1 call: its transaction can't be followed ({type(error).__name__})"
        report_lost(1, message, str(error)[:2048])
        return
    call.send(get_client(), external_user_id)


def _in_transaction(using: str | None) -> bool:
    """Without opening a connection: one that isn't open is in no transaction."""
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        return True
    try:
        return connection.connection is not None and not connection.get_autocommit()
    except SynchronousOnlyOperation:  # in an event loop, where Django has no transactions
        return False
