"""One app's queue as one relay sees it: consume, hold, acknowledge. Raises BrokerError.

The broker pushes messages, up to a bound that follows what a batch takes (``prefetch``), and gives back
to others whatever is not acknowledged when the connection ends. A dead letter is published and
confirmed before its message is acknowledged: cut in between, there are two of it and none is lost.

Nobody reads while a batch is posted: what is pushed meanwhile waits in the socket, and the heartbeat is
long enough for any request.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Iterable, Sequence

from whisperr._broker.amqp_connection import Connection, Content
from whisperr._broker.messages import DEAD_LETTER_QUEUE, queue_of
from whisperr._relay.interfaces import DeadLetter, Entry
from whisperr._relay.rabbitmq.content import ABOUT, fields_of, headers_of

SECONDS = 10.0  # for a command
LEAST, MOST = 20, 2000  # messages of a prefetch
MOST_HEADERS = 64 * 1024  # characters; all of a message's have to fit into 128 KiB
WINDOW = 50  # reads after which the prefetch may become smaller


class RabbitInbox:
    """The queue of one app, for one relay."""

    def __init__(
        self, connection: Connection, letters: Connection, app: str, declare: str | None
    ) -> None:
        self._connection = connection
        # Another one: whoever waits for a confirm takes in all that is pushed, and an alarm blocks who
        # publishes.
        self._letters = letters
        self._written: set[str] = set()  # ids of letters: confirmed, their messages not settled
        self._queue = queue_of(app)
        self._declare = declare
        self._arrived: deque[Entry] = deque()
        self._unsettled: dict[int, None] = {}  # the tags that were given out, in their order
        self._prefetch = 0  # no consumer yet
        self._largest = self._reads = 0  # batch, and number of reads, since the latest look

    def read(self, count: int, seconds: float) -> list[Entry]:
        """At most so many; waits for one at most these seconds."""
        self._consume(count)
        wait = seconds
        while len(self._arrived) < count and self._connection.drain(wait):
            wait = 0.0
        self._connection.keep_alive()
        return [self._arrived.popleft() for _ in range(min(count, len(self._arrived)))]

    def settle(self, ids: Sequence[bytes], dead: Iterable[DeadLetter]) -> None:
        """First the letters, confirmed one by one, then all acknowledgements at once."""
        tags = sorted(map(self._connection.tag_of, ids))
        for letter in dead:
            if letter.id not in self._written:
                self._letters.publish(DEAD_LETTER_QUEUE, _content(letter), SECONDS)
                self._written.add(letter.id)
        self._written.clear()
        for tag in tags:
            self._unsettled.pop(tag, None)
        first_left = next(iter(self._unsettled), None)
        below = [tag for tag in tags if first_left is None or tag < first_left]
        above = tags[len(below) :]

        def acknowledge(channel: Any) -> None:
            if below:
                channel.basic_ack(below[-1], multiple=True)
            for tag in above:
                channel.basic_ack(tag)

        self._connection.ask(SECONDS, acknowledge)

    def lose(self) -> None:
        """Give it all back, to whoever comes first."""
        self._connection.close()
        self._letters.close()
        self._forget()

    def keep_alive(self) -> None:
        """Read whatever has come: the heartbeats of the broker are among it."""
        if self._connection.is_open:
            self._connection.drain(0.0)
            self._connection.keep_alive()

    def leave(self) -> None:
        self._connection.leave()
        self._letters.leave()

    # --- consuming

    def _consume(self, count: int) -> None:
        """See that a batch has the next one behind it, and not many more; ``count``: of its rest.

        Without room for a whole batch none would ever be full. More are asked for at once, fewer
        when no batch has wanted so many for some time.
        """
        if not self._connection.is_open:
            self._forget()
        in_batch = len(self._unsettled) - len(self._arrived) + count
        self._largest = max(self._largest, in_batch)
        wanted = max(LEAST, min(MOST, 2 * self._largest))
        is_too_large = False
        self._reads += 1
        if self._reads == WINDOW:
            is_too_large = self._prefetch > 4 * wanted
            self._reads = self._largest = 0
        if is_too_large or wanted > self._prefetch:
            self._prefetch = wanted
            self._connection.ask(SECONDS, self._begin)

    def _begin(self, channel: Any) -> None:
        """Begin to consume, or with another prefetch from here on: that holds for new consumers alone."""
        if channel.callbacks:
            for tag in list(channel.callbacks):
                channel.basic_cancel(tag)
        else:
            declare(channel, self._queue, self._declare)
            declare(channel, DEAD_LETTER_QUEUE, self._declare)
        channel.basic_qos(0, self._prefetch, False)
        channel.basic_consume(self._queue, callback=self._take)

    def _take(self, message: Any) -> None:
        tag = int(message.delivery_tag)
        self._unsettled[tag] = None
        self._arrived.append((self._connection.name_of(tag), fields_of(message)))

    def _forget(self) -> None:
        self._arrived.clear()
        self._unsettled.clear()
        self._written.clear()
        self._prefetch = 0


def declare(channel: Any, queue: str, kind: str | None) -> None:
    """Make it, if it is not there. None: only ask whether it is."""
    if kind is None:
        channel.queue_declare(queue, passive=True)
        return
    arguments: dict[str, Any] = {"x-queue-type": kind}
    # Of its own a RabbitMQ 4 deletes what was given back 20 times. An earlier one has no such limit, and
    # with this one deletes at the first time.
    if kind == "quorum" and _version(channel) >= 4:
        arguments["x-delivery-limit"] = -1
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)


def _version(channel: Any) -> int:
    """The first number of the broker's; 0 if it says none."""
    said = str(channel.connection.server_properties.get("version", ""))
    number = said.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _content(letter: DeadLetter) -> Content:
    headers = {ABOUT + name: value for name, value in letter.about().items()}
    body, original = headers_of(letter.fields)
    if sum(len(name) + len(value) for name, value in original.items()) > MOST_HEADERS:
        original = {}  # nothing of ours has so many
    return Content(body, {**original, **headers}, letter.id)
