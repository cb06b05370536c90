"""The face: ``Whisperr``. Settings, and a pointer to this process's engine.

Nothing here waits on a lock. The pointer is set at the first call in each process, by the check
that every public method begins with: whatever forked, with hooks or without (uWSGI).
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from datetime import datetime
from functools import wraps
from io import SEEK_CUR
from typing import TYPE_CHECKING, Any, Callable, Mapping, Pattern, Sequence, TypeVar, Union, cast

from whisperr import _atomic
from whisperr._clock import monotonic
from whisperr._delivery.engine import Engine, LazyEngine
from whisperr._delivery.intake import is_nobody
from whisperr._encoding.calls import Encoder, encode_call_by_rules, join, mapping, user_id_text
from whisperr._encoding.values import (
    OPTIONS,
    TAKES_MORE,
    convert,
    dumps,
    is_plain,
    is_tracked,
    write,
)
from whisperr._imports import finish as finish_imports
from whisperr._process.registry import Registry
from whisperr._process.threads import in_thread
from whisperr._reporting.feedback import is_fed_by_us, logging_threads
from whisperr._reporting.reports import Superseded, log_to_stderr, say
from whisperr._settings import (
    FLUSH_TIMEOUT,
    BrokerUrl,
    OnError,
    Settings,
    check_timeout,
    make_settings,
    unlikely,
)

if TYPE_CHECKING:
    from whisperr._encoding.call_filter import BeforeSend

F = TypeVar("F", bound=Callable[..., None])
W = TypeVar("W", bound="Whisperr")


def _from_what_is_given(init: F) -> F:
    """Make the client of the options that were given: the environment is asked for the others.

    ``init`` says which there are, for people, tools and Python, which raises its TypeError.
    """

    @wraps(init)
    def __init__(self: Whisperr, api_key: str | None = None, **given: Any) -> None:
        init(self, api_key, **given)
        settings = make_settings(api_key, given)
        for sentence in unlikely(vars(settings)):
            say(logging.WARNING, sentence)
        self._adopt(settings)

    return cast(F, __init__)


class Whisperr:
    """A client of the ingestion API. One per process tree is enough; it is safe to fork.

    ``track()`` and ``identify()`` queue and return; a daemon thread, started at the first
    call in each process, delivers in batches. All times are in seconds, all sizes in bytes.
    In a ``with`` or ``async with`` block it is shut down at the end of that. In what serves until its
    process ends, leave that to the exit.
    An option that is left out is looked for in the environment: ``flush_at`` is
    ``WHISPERR_FLUSH_AT``.

    Args:
        api_key: App ingestion key (``wrk_…``). Required, unless ``disabled``, or ``app`` is given.
        base_url: Where the API is. A trailing slash is tolerated.
        app_version: Sent as ``context.app_version`` with every event.
        flush_at: Deliver at this many queued records, 1 or more.
        flush_interval: Deliver at the latest this long after a record was queued, more than 0.
        max_queue_size: Records kept in memory, 1 or more; beyond it the oldest are dropped.
        max_batch_size: Events in one request, 1 or more; more than 500 means 500.
        max_retries: Consecutive retries before a batch is given back to the queue, 0 to 100.
        request_timeout: For each request, more than 0.
        disabled: Do nothing: no thread, no network, no import of requests. This and ``debug``
            may be a text, as variables of the environment are: true, false, 1, 0, yes, no, on, off.
        debug: Log everything to stderr.
        on_error: Called with a ``WhisperrError`` for every loss and every pass that gave up,
            from the sender's thread, or from the caller's for a refused call. What it raises
            is ignored.
        shutdown_timeout: How long an exit may take to deliver, 0 or more; shared by all clients.
        max_event_bytes: A larger event is refused, alone. At least 1024, as the next two.
        max_batch_bytes: The size of a request's body, unless one event alone is larger.
        max_queue_bytes: Of what waits in memory; beyond it the oldest are dropped.
        journal_dir: A folder of yours for the journal: with it, what ``track()`` has returned
            from survives even SIGKILL, and the limits of the queue lose nothing. None: memory only.
        max_journal_bytes: Of the journal, for each destination and folder, at least 1 MiB;
            beyond it the oldest are dropped.
        before_send: Called in ``track()`` and ``identify()`` with a dict of the call's arguments,
            before they are encoded. What it returns is sent instead, and nothing for None. The
            call that it raises in is dropped, and reported. It must not track itself.
        redact: Names of properties, members of a context and traits whose values are replaced by
            ``"[redacted]"``, at any depth: as text, in any case, also with ``*`` and ``?``, or as
            compiled patterns.
        broker_url: A broker that takes what is tracked instead of the API: a RabbitMQ
            (``amqp://``, ``amqps://``) or a Redis (``redis://``, ``rediss://``, ``unix://``).
            ``whisperr relay`` delivers it from there. What the broker has confirmed counts as
            delivered.
        app: With ``broker_url``, instead of ``api_key``: a name in snake_case, by which the relay
            knows the key.

    Raises:
        ValueError: An option is unusable; the text names it, or its variable, and the legal range.
    """

    _is_finalizing = staticmethod(sys.is_finalizing)  # the names of a module go before this

    @_from_what_is_given
    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str = Settings.base_url,
        app_version: str | None = Settings.app_version,
        flush_at: int = Settings.flush_at,
        flush_interval: float = Settings.flush_interval,
        max_queue_size: int = Settings.max_queue_size,
        max_batch_size: int = Settings.max_batch_size,
        max_retries: int = Settings.max_retries,
        request_timeout: float = Settings.request_timeout,
        disabled: bool = Settings.disabled,
        debug: bool = Settings.debug,
        on_error: OnError | None = Settings.on_error,
        shutdown_timeout: float = Settings.shutdown_timeout,
        max_event_bytes: int = Settings.max_event_bytes,
        max_batch_bytes: int = Settings.max_batch_bytes,
        max_queue_bytes: int = Settings.max_queue_bytes,
        journal_dir: str | os.PathLike[str] | None = Settings.journal_dir,
        max_journal_bytes: int = Settings.max_journal_bytes,
        before_send: BeforeSend | None = Settings.before_send,
        redact: Sequence[str | Pattern[str]] = Settings.redact,
        broker_url: str | None = None,
        app: str | None = Settings.app,
    ) -> None:
        """See the class. What was given is taken by the decorator."""

    def _adopt(self, settings: Settings) -> None:
        self._settings = settings
        self._encoder = Encoder(settings.app_version, settings.max_event_bytes)
        self._engine: ClientEngine = None
        if settings.before_send is not None or settings.redact:
            import whisperr._encoding.call_filter  # now, and not in a child
        if settings.debug:
            log_to_stderr()
        if not settings.disabled:
            if not _atomic.HOLDS:
                _warn_once()
            import whisperr._delivery.transport  # requests: now, and not while sending

            if settings.broker_url is not None:
                _prepare_publisher(settings.broker_url)
            if settings.journal_dir is not None:
                import whisperr._journal.journal  # noqa: F401
            if "asyncio" in sys.modules:
                import concurrent.futures.thread  # noqa: F401  # where aflush() waits
            finish_imports()
        self._engine = _engine_factory(self, None)
        _clients.add(self)

    # --- the published interface

    @property
    def ready(self) -> bool:
        """False for a disabled client."""
        return self._engine is not None

    @property
    def base_url(self) -> str:
        """Where it sends, whatever of arguments, settings and environment has said so."""
        return self._settings.base_url

    def track(
        self,
        external_user_id: str,
        event_type: str,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        occurred_at: datetime | None = None,
        message_id: str | None = None,
    ) -> None:
        """Queue an event. Returns at once, never raises, and keeps no reference to what it is given.

        An empty user id or event type is ignored, and counted. What can't be sent (an event type that is
        not lowercase snake_case, a value without a JSON form, an event over
        ``max_event_bytes``) is reported as ``dropped``, alone.

        Args:
            external_user_id: Your own id of the user.
            event_type: Lowercase snake_case, see also ``BillingEvent``.
            properties: What happened. Dates, UUIDs, Decimals, Enums, sets and the like are
                converted by the rules in the documentation.
            context: Where it happened; wins over what the SDK adds, save over the id.
            occurred_at: When, with a time zone; now, if not given. The service takes
                30 days back and 5 minutes ahead.
            message_id: Your own idempotency key, unique per event, for back-fills and webhooks.
        """
        # All of the hot path: see whisperr._delivery.intake for what holds, and why.
        engine = self._engine
        if engine is None:
            return
        try:
            if logging_threads and is_fed_by_us():
                return
            if not engine.token[0]:  # the first call in this process
                engine = self._engine_of_this_process(engine)
            intake = engine.intake
            if not external_user_id and is_nobody(external_user_id):
                intake.ignore("no user", event_type)
                return
            if intake.filter is not None:
                intake.put_filtered(
                    external_user_id, event_type, properties, context, occurred_at, message_id
                )
                return
            try:
                kind = intake.event_types[event_type]
            except (KeyError, TypeError):  # a new one, an empty one, not a string
                kind = intake.event_type(event_type)
                if not kind:
                    intake.ignore("no event type")
                    return
            if type(external_user_id) is not str:
                external_user_id = user_id_text(external_user_id)
            if type(properties) is not dict:
                properties = {} if properties is None else mapping(properties, "properties")
            if is_tracked(properties) and not is_plain(properties):
                call = encode_call_by_rules(external_user_id, kind, properties)
            else:
                try:
                    user = write(external_user_id)
                    rest = write(properties) if TAKES_MORE else dumps(properties, convert, OPTIONS)
                    call = join((user, kind, rest))
                except (TypeError, ValueError):  # a value that the encoder does not take
                    call = encode_call_by_rules(external_user_id, kind, properties)
            size = len(call)
            if (
                size > intake.max_size
                or context is not None
                or occurred_at is not None
                or message_id is not None
            ):
                intake.put(call, context, occurred_at, message_id)
                return
            intake.append((next(intake.numbers), time.time_ns(), call, None, None))
            total = intake.add_bytes(size + intake.beside_call, SEEK_CUR)
            waiting = len(intake.events)
            if intake.identities:  # as a rule there are none
                waiting += len(intake.identities)
            if waiting >= intake.queue.look_at or total > intake.max_total:
                intake.after_put()
        except Exception as error:
            engine.refuse(error, event_type)

    def identify(
        self,
        external_user_id: str,
        *,
        traits: Mapping[str, Any] | None = None,
        email: str | None = None,
        phone: str | None = None,
        push_token: str | None = None,
        preferred_channel: str | None = None,
        channels: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Queue what is known of a user. Returns at once and never raises, as ``track()``.

        Args:
            external_user_id: Your own id of the user. An empty one is ignored.
            traits: Facts; ``app_language`` (BCP 47) is reserved. Converted as properties are.
            email, phone, push_token: Short for opted-in ``email``, ``sms``, ``push`` channels.
            preferred_channel: ``"email"``, ``"sms"`` or ``"push"``.
            channels: Replaces the three short forms. Each item has ``type`` (or ``channel``)
                and ``address``, and may have ``opted_in`` (True) and ``verified``.
        """
        engine = self._engine
        if engine is None:
            return
        fields = {
            "external_user_id": external_user_id,
            "traits": traits,
            "email": email,
            "phone": phone,
            "push_token": push_token,
            "preferred_channel": preferred_channel,
            "channels": channels,
        }
        try:
            if logging_threads and is_fed_by_us():
                return
            if not engine.token[0]:  # the first call in this process
                engine = self._engine_of_this_process(engine)
            engine.identify(fields)
        except Exception as error:
            engine.refuse(error, "identify")

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what is queued now, in one pass, and wait for it.

        What can't be delivered stays queued. A name look-up made in the calling thread can't
        be bounded; it is made there only where no thread can be started.

        Args:
            timeout: How long to wait at most, 0 or more; None means 30 s.

        Returns:
            True if everything accepted before the call was settled: delivered, or dropped and
            reported. False too when called by ``on_error`` inside a pass, which can't wait for itself.

        Raises:
            ValueError: The timeout is no such number.
        """
        try:
            return self._flush(timeout)
        except Exception:
            if not self._is_finalizing():
                raise
            return False  # of what it needs some is gone already

    def _flush(self, timeout: float | None) -> bool:
        deadline = _deadline(timeout, FLUSH_TIMEOUT)
        engine = self._own_engine()
        if engine is None:
            return True
        try:
            return engine.flush(deadline)
        except Superseded:
            return False

    def shutdown(self, timeout: float | None = None) -> bool:
        """Deliver what is queued and stop for good. Idempotent; exits do it by themselves.

        What is left when the time is over is reported as ``dropped``, by count. Later calls
        of ``track()`` and ``identify()`` are dropped, which is reported once.

        Args:
            timeout: How long to take at most, 0 or more; None means ``shutdown_timeout``.

        Returns:
            True if everything accepted before the call was settled.

        Raises:
            ValueError: The timeout is no such number.
        """
        try:
            return self._shutdown(timeout)
        except Exception:
            if not self._is_finalizing():
                raise
            return False

    def _shutdown(self, timeout: float | None) -> bool:
        deadline = _deadline(timeout, self._settings.shutdown_timeout)
        engine = self._own_engine()
        if engine is None:
            return True
        try:
            engine.begin_exit(deadline, closing=True)
            return engine.finish_exit()
        except Superseded:
            return False

    # --- what ours adds

    async def aflush(self, timeout: float | None = None) -> bool:
        """``flush()`` without blocking the event loop."""
        return await in_thread(lambda: self.flush(timeout))

    async def ashutdown(self, timeout: float | None = None) -> bool:
        """``shutdown()`` without blocking the event loop."""
        return await in_thread(lambda: self.shutdown(timeout))

    def stats(self) -> dict[str, Any]:
        """The ledger of this process: ``accepted + adopted = delivered + dropped + pending + spilled``.

        ``ignored`` counts the calls without a user or an event type, which are no part of that.
        ``dropped`` is a dict of counts by reason (``refused``, ``closed``, ``overflow``,
        ``rejected``, ``undelivered``, ``journal``, ``before_send``). Besides: ``requests``, ``retries`` (among them),
        ``splits``, ``bytes`` (of request bodies) and ``last_error`` (a sentence or None).
        A child starts from zero; so does what a disabled client says. Taken while other
        threads work, the figures may be apart by the records that are just moving.
        """
        engine = self._own_engine()
        return Engine(self._settings, self._encoder).stats() if engine is None else engine.stats()

    # --- with Whisperr(...) as w

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, *raised: object) -> None:
        """``shutdown()``: what was tracked is delivered before the block is left."""
        self.shutdown()

    async def __aenter__(self: W) -> W:
        return self

    async def __aexit__(self, *raised: object) -> None:
        """``ashutdown()``."""
        await self.ashutdown()

    def __repr__(self) -> str:
        state = "disabled" if self._engine is None else "closed" if self._engine.closed else "open"
        return f"<Whisperr {self._settings.place} {state}>"

    def __reduce__(self) -> tuple[Callable[..., Whisperr], tuple[type[Whisperr], Settings]]:
        """A client pickles as its settings: what it holds belongs to this process."""
        return _from_settings, (type(self), self._settings)

    def __del__(self) -> None:
        if self._is_finalizing():  # the exit has delivered, and what retire() needs may be gone
            return
        engine = getattr(self, "_engine", None)  # absent when the constructor raised
        if engine is not None:
            engine.retire()

    # --- another process without a fork

    def _renew_engine(self) -> None:
        """An engine with ids and a session of its own. The one before delivers what it holds."""
        before = self._engine
        if isinstance(before, Engine) and before.token[0]:
            self._engine = before.replacement()
            if self._engine is not before:
                before.retire()

    # --- the first call in a process

    def _engine_of_this_process(self, before: Engine | LazyEngine) -> Engine:
        """Two threads may be here at once: one engine is made."""
        engine = before.for_this_process()
        if engine.token[0]:  # else a signal handler forked inside that: this call is the parent's
            self._engine = engine
        return engine

    def _own_engine(self) -> Engine | None:
        engine = self._engine
        return None if engine is None else self._engine_of_this_process(engine)


Whisperr.__module__ = "whisperr"


def _from_settings(kind: type[Whisperr], settings: Settings) -> Whisperr:
    client = kind.__new__(kind)
    client._adopt(settings)
    return client


def _prepare_publisher(url: BrokerUrl) -> None:
    """What publishes is imported now, and not while sending. ValueError where it can't be."""
    from whisperr._delivery.publisher import producer_for

    try:
        producer_for(url)
    except ImportError as error:
        name = url.package
        raise ValueError(
            f"broker_url needs the package {name}: pip install 'whisperr[{name}]' ({error})"
        ) from None


def _warn_once() -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        message = (
            "whisperr: without an interpreter lock it needs CPython 3.14.7: events may be lost here"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=4)  # the constructor's caller


_has_warned = False


def _deadline(timeout: float | None, default: float) -> float:
    """Monotonic seconds. ValueError for what is no number of seconds, 0 or more."""
    if timeout is None:
        timeout = default
    return monotonic() + check_timeout("timeout", timeout)


# --- what makes engines, for whisperr.testing

ClientEngine = Union[Engine, LazyEngine, None]  # None: the client is disabled
EngineFactory = Callable[[Whisperr, ClientEngine], ClientEngine]  # the client, what it has now


def ordinary_engine(client: Whisperr, current: ClientEngine, closed: bool = False) -> ClientEngine:
    """The engine of a client outside of tests: one that delivers."""
    if client._settings.disabled:
        return None
    if closed:
        return Engine(client._settings, client._encoder, closed)
    return LazyEngine(client._settings, client._encoder)


def install_engine_factory(factory: EngineFactory) -> EngineFactory:
    """Have ``factory`` make the engine of every client to come; returns the one before."""
    global _engine_factory
    previous, _engine_factory = _engine_factory, factory
    return previous


def replace_engines(factory: EngineFactory) -> None:
    """Give every living client the engine that ``factory`` makes of it."""
    for client in live_clients():
        client._engine = factory(client, client._engine)


_engine_factory: EngineFactory = ordinary_engine


# --- all clients at once, for whisperr.lifecycle

_clients: Registry[Whisperr] = Registry()


def live_clients() -> list[Whisperr]:
    """All living clients, the disabled ones too."""
    return _clients.living()


def live_engines() -> list[Engine]:
    """The engines of this process of all living, enabled clients."""
    engines = [client._own_engine() for client in live_clients()]
    return [engine for engine in engines if engine is not None]
