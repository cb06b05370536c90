"""One app's messages on their way from the broker to the API: read, merge, post, settle, again.

Guarantees:
    A message is settled after the API has answered for all that is in it, and never before; what is
    held when this process dies is read by another relay, or by the next one, under the same ids.
    While the API is in trouble the messages are held, not put back. What the API refuses is split
    until the bad event is alone, which becomes a dead letter; all others are delivered.
Assumes:
    Runs in a thread of its own, with a connection and a transport of its own. Another thread only
    sets the event that ends it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import Callable, Iterator, Sequence

from whisperr._broker.errors import BrokerAlarm, BrokerError, ComesAgain
from whisperr._broker.messages import IDENTITY, Damaged, Message, decode, fingerprint
from whisperr._clock import monotonic
from whisperr._delivery.answers import explain_answer, explain_broker, explain_no_answer
from whisperr._delivery.outcome import Outcome, Reply
from whisperr._delivery.splitting import SETTLING, sent_in_parts
from whisperr._delivery.transport import Transport
from whisperr._encoding.bodies import (
    EVENTS_PATH,
    IDENTIFY_PATH,
    body_of,
    each_event,
    events_of,
)
from whisperr._relay.interfaces import DeadLetter, Entry, Fields, Inbox
from whisperr._reporting.reports import say, says_all
from whisperr._settings import MAX_BATCH_SIZE, Settings

RELAY_HEADER = "X-Whisperr-Relay"  # on each request: the name of the relay that made it

GLANCE = 0.5  # seconds between two looks at whether it shall end
HOLD = 5.0  # seconds between two rounds of attempts, while the API takes nothing
LONGEST_SILENCE = 1.0  # seconds without a sign of life over the connection of the messages
BROKER_PAUSE = 1.0  # seconds, while the broker is not there
MOST_MESSAGES = 100  # in one read: the next ones may be larger than those before, up to 1 MiB each


class Held:
    """A message that was read and is not settled yet."""

    def __init__(self, entry: bytes, fields: Fields, message: Message) -> None:
        self.entry = entry
        self.fields = fields
        self.message = message
        self.dead: list[DeadLetter] = []
        is_identity = message.kind == IDENTITY
        #: of which the API has not answered yet
        self.events = b"" if is_identity else events_of(message.body)
        self.count = message.records

    def keep_only(self, events: Sequence[bytes]) -> None:
        """The API has answered for all others."""
        self.events = b",".join(events)
        self.count = len(events)

    def die(self, reply: Reply) -> None:
        """The API has refused what is left."""
        whole = self.fields if not self.dead and self.count == self.message.records else None
        body = self.message.body if whole or self.message.kind == IDENTITY else None
        fields = whole or _as_message(self.fields, self.count, body or body_of([self.events]))
        self.dead.append(_letter(fields, reply))


class Lane:
    """Delivers one app's messages, until it shall end and what it holds is settled."""

    def __init__(
        self,
        app: str,
        inbox: Inbox,
        broker: str,
        settings: Settings,
        relay: str,
        linger: float,
        stop: threading.Event,
        stop_at: Callable[[], float | None],
    ) -> None:
        self.app = app
        self.delivered = 0  # events and identities
        self.dead = 0  # letters
        self.held = 0  # messages that were read and are not settled
        self.delivered_at: float | None = None  # monotonic; the latest delivery
        self._settings = settings
        self._broker = broker  # its URL, without a password
        self._inbox = inbox
        self._transport = Transport(settings, self._idle, stop_at)
        self._headers = {RELAY_HEADER: relay}
        self._fingerprint = fingerprint(settings.key.reveal())
        self._linger = linger
        self._stop = stop
        self._stop_at = stop_at
        self._held: deque[Held] = deque()
        self._losses = 0  # of all that was held
        self._message_size = (20, 6000)  # events and bytes, of the latest
        self._said = ""  # the trouble that was told

    # --- for metrics, which another thread reads

    @property
    def requests(self) -> int:
        """To the API, repeated ones too."""
        return self._transport.requests

    @property
    def retries(self) -> int:
        """Requests that repeat one."""
        return self._transport.retries

    # --- the loop

    def run(self) -> None:
        """Until the event, then what is held within the time that is left."""
        while not self._stop.is_set():
            try:
                self._fill()
            except BrokerError as error:
                self._lost_broker(error)
            else:
                self._deliver()
        while self._held and self._deliver():
            pass
        self._leave()

    def _fill(self) -> None:
        """Read until a batch is full, or the oldest of it has waited long enough."""
        until = monotonic() + self._linger if self._held else None  # the rest of the batch before
        while not self._is_full() and not self._stop.is_set():
            left = GLANCE if until is None else until - monotonic()
            entries = self._inbox.read(self._wanted(), min(GLANCE, max(0.0, left)))
            losses = self._losses
            for entry in entries:
                self._take(entry)
                if self._losses != losses:  # the rest of them comes again
                    break
            if self._held and until is None:
                until = monotonic() + self._linger
            if until is not None and monotonic() >= until and not entries:
                return

    def _wanted(self) -> int:
        """Messages that fill the batch, if they are as the latest one."""
        events, size = self._message_size
        by_events = -(-(MAX_BATCH_SIZE - self._count()) // events)
        by_bytes = -(-(self._settings.max_batch_bytes - self._bytes()) // size)
        return max(1, min(MOST_MESSAGES, by_events, by_bytes))

    def _count(self) -> int:
        return sum(held.count for held in self._held)

    def _bytes(self) -> int:
        return sum(len(held.message.body) for held in self._held)

    def _is_full(self) -> bool:
        return self._count() >= MAX_BATCH_SIZE or self._bytes() >= self._settings.max_batch_bytes

    def _take(self, entry: Entry) -> None:
        """Hold a message; what can't be delivered is a dead letter at once."""
        name, fields = entry
        self.held += 1
        if fields is None:  # deleted by somebody else
            self._settle([name], [])
            return
        try:
            held = Held(name, fields, self._decoded(fields))
        except Damaged as error:
            self._settle([name], [DeadLetter(fields, str(error))])
        except ValueError:
            self._settle([name], [DeadLetter(fields, "its body is not one of whisperr")])
        else:
            self._held.append(held)
            self._message_size = (held.count, max(1, len(held.message.body)))

    def _decoded(self, fields: Fields) -> Message:
        message = decode(fields)
        if message.app != self.app:
            raise Damaged("it names another app than its queue does")
        if not self.app and message.key not in (b"", self._fingerprint):
            raise Damaged("its client has another key than the relay")
        return message

    def _lost_broker(self, error: BrokerError) -> None:
        """What is held is the broker's, too, and is read again from there."""
        self._lose()
        self._broker_trouble(error)
        self._stop.wait(BROKER_PAUSE)

    # --- to the API

    def _deliver(self) -> bool:
        """One batch of what is held. False: the API takes nothing now, or no time is left."""
        batch = self._batch()
        done: list[Held] = []
        losses = self._losses
        goes_on = self._send(batch, done)
        finished = {held.entry for held in done}
        left = [held for held in batch if held.entry not in finished]
        if self._losses == losses:
            self._held.extendleft(reversed(left))  # else they come again
        ids = [held.entry for held in done]
        dead = [letter for held in done for letter in held.dead]
        settled = not done or self._settle(ids, dead)
        if not goes_on:
            self._idle(HOLD)
        return goes_on and settled

    def _batch(self) -> list[Held]:
        """The oldest that fit into one request, one at least."""
        batch: list[Held] = []
        count = size = 0
        while self._held:
            held = self._held[0]
            count, size = count + held.count, size + len(held.events)
            too_much = count > MAX_BATCH_SIZE or size > self._settings.max_batch_bytes
            if batch and too_much:
                break
            batch.append(self._held.popleft())
        return batch

    def _send(self, batch: list[Held], done: list[Held]) -> bool:
        """As a client's pass does: identities first, in order, then the events."""
        for held in batch:
            if held.message.kind == IDENTITY and not self._send_identity(held, done):
                return False
        events = [held for held in batch if held.message.kind != IDENTITY]
        return not events or self._send_events(events, done)

    def _send_identity(self, held: Held, done: list[Held]) -> bool:
        key = {"Idempotency-Key": held.message.id.decode("ascii", "replace")}
        headers = {**self._headers, **key} if held.message.id else self._headers
        reply = self._transport.send(IDENTIFY_PATH, held.message.body, headers, "1 identity")
        return self._answered([held], reply, done)

    def _send_events(self, messages: list[Held], done: list[Held]) -> bool:
        for part, reply in sent_in_parts(messages, self._post, 2 * len(messages), _nothing):
            if reply.outcome is Outcome.REFUSE and part[0].message.records > 1:
                if not self._send_apart(part[0]):
                    return False
                done.append(part[0])
            elif not self._answered(part, reply, done):
                return False
        return True

    def _answered(self, part: Sequence[Held], reply: Reply, done: list[Held]) -> bool:
        if reply.outcome not in SETTLING:
            self._api_trouble(reply)
            return False
        for held in part:
            if reply.outcome is not Outcome.OK:
                held.die(reply)
            else:
                self._delivered(held.count)
        done += part
        return True

    def _send_apart(self, held: Held) -> bool:
        """Of a message that was refused, each event that is not the reason."""
        try:
            left = each_event(held.events)
        except (ValueError, RecursionError):
            held.dead.append(DeadLetter(held.fields, "its body is damaged"))
            return True
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            for part, reply in self._parts_of(half):
                if reply.outcome not in SETTLING:
                    self._api_trouble(reply)
                    held.keep_only(left)
                    return False
                del left[: len(part)]
                if reply.outcome is Outcome.OK:
                    self._delivered(len(part))
                else:
                    fields = _as_message(held.fields, len(part), body_of(part))
                    held.dead.append(_letter(fields, reply))
        return True

    def _parts_of(self, events: list[bytes]) -> Iterator[tuple[Sequence[bytes], Reply]]:
        if not events:
            return iter(())
        return sent_in_parts(events, self._post_events, 2 * len(events), _nothing)

    def _post(self, part: Sequence[Held]) -> Reply:
        return self._post_body([held.events for held in part], sum(held.count for held in part))

    def _post_events(self, part: Sequence[bytes]) -> Reply:
        return self._post_body(part, len(part))

    def _post_body(self, events: Sequence[bytes], count: int) -> Reply:
        what = f"{count} events" if says_all() else ""
        return self._transport.send(EVENTS_PATH, body_of(events), self._headers, what, count)

    def _idle(self, seconds: float) -> bool:
        """Wait, without being silent to the broker. False: it shall end."""
        until = monotonic() + seconds
        while not self._stop.is_set():
            left = until - monotonic()
            if left <= 0:
                return True
            self._stop.wait(min(LONGEST_SILENCE, left))
            try:
                self._inbox.keep_alive()
            except BrokerError:  # what is held comes again
                self._lose()
        return False

    def _delivered(self, count: int) -> None:
        self.delivered_at = monotonic()
        self.delivered += count
        self._said = ""

    # --- back to the broker

    def _settle(self, ids: Sequence[bytes], dead: Sequence[DeadLetter]) -> bool:
        """Again and again, while the broker is not there: what was delivered shall not come twice."""
        while True:
            try:
                self._inbox.settle(ids, dead)
                break
            except ComesAgain:
                return True
            except BrokerAlarm as error:  # nothing is lost; a letter is under way
                self._broker_trouble(error)
            except BrokerError as error:
                self._broker_trouble(error)
                self._lose()
            if not self._waits_for_broker():
                return False
        self.held = max(0, self.held - len(ids))
        self.dead += len(dead)
        if dead:
            self._told_dead(len(dead), dead[0].reason)
        return True

    def _lose(self) -> None:
        self._losses += 1
        self._held.clear()
        self.held = 0
        self._inbox.lose()

    def _waits_for_broker(self) -> bool:
        """False: no time is left."""
        stop_at = self._stop_at()
        if stop_at is None:
            self._idle(BROKER_PAUSE)
            return True
        left = stop_at - monotonic()
        threading.Event().wait(min(BROKER_PAUSE / 10, max(0.0, left)))
        return left > 0

    def _leave(self) -> None:
        self._transport.close()
        with contextlib.suppress(BrokerError):  # it is not there: the name stays on the list
            self._inbox.leave()

    # --- what is said: neither keys nor what is in a message

    def _api_trouble(self, reply: Reply) -> None:
        if reply.interrupted:
            return
        url = self._settings.base_url
        if reply.status is not None:
            found = explain_answer(reply.status, reply.detail, url)
        else:
            timeout = self._settings.request_timeout
            found = explain_no_answer(reply.error or "", reply.detail, url, timeout)
        self._tell(f"{found.what} Messages are held. {found.change}")

    def _broker_trouble(self, error: BrokerError) -> None:
        found = explain_broker(error, self._broker)
        self._tell(f"{found.what} {found.change}")

    def _tell(self, sentence: str) -> None:
        """Once, until a delivery succeeds."""
        level = logging.DEBUG if sentence == self._said else logging.WARNING
        self._said = sentence
        say(level, f"{self._name()}: {sentence}")

    def _told_dead(self, count: int, reason: str) -> None:
        letters = "dead letter" if count == 1 else "dead letters"
        say(logging.WARNING, f"{self._name()}: {count} {letters}: {reason}")

    def _name(self) -> str:
        return f"app {self.app}" if self.app else "messages that name no app"


def _nothing() -> None:
    pass


def _as_message(fields: Fields, count: int, body: bytes) -> Fields:
    return {**fields, b"n": b"%d" % count, b"body": body}


def _letter(fields: Fields, reply: Reply) -> DeadLetter:
    reason = f"the API refused it with status {reply.status}"
    return DeadLetter(fields, reason, reply.status, reply.detail)
