"""``Recording``: everything that the clients of a process were told, and what a test says of it.

Guarantees:
    Calls are in the order in which they were made, from any thread. A call that the client
    refuses makes the recording fail at its end, unless the test has said that it expects it.
Lock-free: an append is one indivisible step.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping, Sequence, TypeVar, overload

from whisperr.testing._expect import IdentityPattern, Pattern, TrackPattern, explain, listed
from whisperr.testing._recording_engine import begin, end
from whisperr.testing._records import Identified, Record, Refused, Tracked
from whisperr.testing._spool import Spool

R = TypeVar("R")


class Recording(Sequence[Tracked]):
    """What the clients of a process were told while ``recording()`` was under way.

    It is a sequence of the tracked events, in the order of the calls: ``len(events)``,
    ``events[0]`` and ``for event in events`` are about ``Tracked`` values. It may be read while
    it records, and after its end.

    The assertions compare what would be sent: an expected ``Decimal("12.5")`` equals a sent 12.5,
    and an expected ``True`` is not 1.
    """

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._spool: Spool | None = None
        self._expected: list[Refused] = []

    # --- what was recorded

    @property
    def events(self) -> list[Tracked]:
        """The events so far, in the order of the calls; a new list each time."""
        return self._all(Tracked)

    @property
    def identities(self) -> list[Identified]:
        """The identities so far, likewise."""
        return self._all(Identified)

    @property
    def refused(self) -> list[Refused]:
        """The calls so far that would never be sent, those that were expected too."""
        return self._all(Refused)

    def of_type(self, event_type: str) -> list[Tracked]:
        """The events so far with exactly this event type; an empty list if there are none."""
        return [event for event in self.events if event.event_type == event_type]

    @overload
    def __getitem__(self, index: int) -> Tracked: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tracked]: ...

    def __getitem__(self, index: int | slice) -> Tracked | list[Tracked]:
        return self.events[index]

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return f"<Recording {self.events!r}>"

    def clear(self) -> None:
        """Forget everything up to now, refused calls too: those no longer fail the test."""
        self._collect()
        self._records.clear()
        self._expected.clear()

    def follow_forks(self) -> None:
        """From now on, also record what forked children track. Call it before they are forked.

        A record is here as soon as the child's call has returned, however the child ends. A
        process that is not a fork (spawned, or a command) is not recorded. A second call changes
        nothing. The records go through a temporary file, which the end of the recording removes.
        """
        if self._spool is None:
            self._spool = Spool()

    # --- what a test says of it

    def assert_tracked(
        self,
        event_type: str,
        *,
        user: object = None,
        external_user_id: object = None,
        properties: Mapping[Any, Any] | None = None,
        context: Mapping[Any, Any] | None = None,
        times: int | None = None,
    ) -> Tracked:
        """Such an event was tracked. Returns the first of them.

        Args:
            event_type: As it would be sent: lowercase, without white space around it.
            user, external_user_id: Its user's id, as text or as what ``str()`` makes that text of;
                None means any. Two words for one thing: the second is that of ``track()``.
            properties: These are among the event's, with these values; None or ``{}`` means any.
            context: Likewise, of the event's context.
            times: So many such events, no more and no less; None means one or more.

        Raises:
            AssertionError: It says what was tracked instead, and what differs.
            ValueError: ``times`` is under 1, or a value has no JSON form.
        """
        __tracebackhide__ = True
        pattern = TrackPattern(event_type, _one(user, external_user_id), properties, context)
        return self._assert(pattern, self.events, times)

    def assert_not_tracked(
        self,
        event_type: str,
        *,
        user: object = None,
        external_user_id: object = None,
        properties: Mapping[Any, Any] | None = None,
        context: Mapping[Any, Any] | None = None,
    ) -> None:
        """No such event was tracked. The arguments are those of ``assert_tracked``.

        Raises:
            AssertionError: It lists the events that there should not be.
            ValueError: A value has no JSON form.
        """
        __tracebackhide__ = True
        pattern = TrackPattern(event_type, _one(user, external_user_id), properties, context)
        found = [event for event in self.events if not pattern.differences(event)]
        if found:
            raise AssertionError(f"expected no {pattern}, but there is:\n{listed(found)}")

    def assert_nothing_tracked(self) -> None:
        """No event was tracked, and no call was refused unexpectedly. Identities don't count.

        Raises:
            AssertionError: It lists what there should not be.
        """
        __tracebackhide__ = True
        found: list[Record] = [*self.events, *self._unexpected()]
        if found:
            raise AssertionError(f"expected no event, but there is:\n{listed(found)}")

    def assert_identified(
        self,
        user: object = None,
        *,
        external_user_id: object = None,
        traits: Mapping[Any, Any] | None = None,
        email: str | None = None,
        phone: str | None = None,
        push_token: str | None = None,
        preferred_channel: str | None = None,
        times: int | None = None,
    ) -> Identified:
        """Such an identity was sent. Returns the first of them.

        Args:
            user, external_user_id: Its user's id, as text or as what ``str()`` makes that text of.
                One of the two is needed.
            traits: These are among its traits, with these values; None or ``{}`` means any.
            email, phone, push_token: It has a channel of this kind with this address.
            preferred_channel: It prefers this one.
            times: So many such identities, no more and no less; None means one or more.

        Raises:
            AssertionError: It says what was said instead, and what differs.
            ValueError: As of ``assert_tracked``.
        """
        __tracebackhide__ = True
        user = _one(user, external_user_id)
        if user is None:
            raise ValueError("user (or external_user_id) is needed")
        addresses = {"email": email, "sms": phone, "push": push_token}
        pattern = IdentityPattern(user, traits, addresses, preferred_channel)
        return self._assert(pattern, self.identities, times)

    def assert_nothing_identified(self) -> None:
        """No user was identified. Events don't count.

        Raises:
            AssertionError: It lists the identities that there should not be.
        """
        __tracebackhide__ = True
        if self.identities:
            raise AssertionError(f"expected no identity, but there is:\n{listed(self.identities)}")

    def assert_refused(self, message: str = "") -> Refused:
        """A call was refused, and was meant to be: it then no longer fails the test.

        Each call of this asks for one refused call, so ask twice for two.

        Args:
            message: What stands in the message of the refused call; empty means any.

        Returns:
            The first such call that nothing has asked for yet.

        Raises:
            AssertionError: There is none; it lists what there is.
        """
        __tracebackhide__ = True
        for refused in self._unexpected():
            if message in refused.message:
                self._expected.append(refused)
                return refused
        raise AssertionError(
            f"expected a refused call{f' with {message!r}' if message else ''}, "
            f"but there is:\n{listed([*self._unexpected(), *self.events])}"
        )

    def check(self) -> None:
        """Fail if a call was refused that no ``assert_refused`` has asked for.

        The end of the recording does the same. What it has failed for once it does not fail for
        again.

        Raises:
            AssertionError: It lists the calls, with the file and the line of each.
        """
        __tracebackhide__ = True
        found = self._unexpected()
        if found:
            self._expected.extend(found)  # said once
            raise AssertionError(
                f"{len(found)} call{'' if len(found) == 1 else 's'} would never be sent:\n"
                f"{listed(found)}\nIf that is meant, say so: assert_refused()."
            )

    # --- inside

    def _assert(self, pattern: Pattern[R], records: Sequence[R], times: int | None) -> R:
        __tracebackhide__ = True
        if times is not None and times < 1:
            raise ValueError("times must be 1 or more; see assert_not_tracked")
        found = [record for record in records if not pattern.differences(record)]
        if not found or times not in (None, len(found)):
            raise AssertionError(explain(pattern, records, times, self._unexpected()))
        return found[0]

    def _unexpected(self) -> list[Refused]:
        asked_for = [id(refused) for refused in self._expected]
        return [refused for refused in self.refused if id(refused) not in asked_for]

    def _all(self, kind: type[R]) -> list[R]:
        self._collect()
        return [record for record in self._records if isinstance(record, kind)]

    def _collect(self) -> None:
        if self._spool is not None:
            self._records.extend(self._spool.take())

    def _take(self, record: Record) -> None:
        if self._spool is not None:
            self._spool.add(record)
        else:
            self._records.append(record)

    def _close(self) -> None:
        if self._spool is not None:
            self._collect()
            self._spool.remove()
            self._spool = None


def _one(user: object, external_user_id: object) -> object:
    """The one that was given of two words for the same."""
    if user is not None and external_user_id is not None:
        raise ValueError("user and external_user_id are two words for one thing: give one")
    return user if external_user_id is None else external_user_id


@contextlib.contextmanager
def recording(*, forks: bool = False, check: bool = True) -> Iterator[Recording]:
    """Record what every client of this process is told, the disabled ones too; send nothing.

    Clients that exist already record as well as those that are made meanwhile, and are
    themselves again at the end. Of recordings inside each other the innermost gets everything.

    Args:
        forks: Record what forked children track, too; see ``Recording.follow_forks``.
        check: At the end, fail if a call was refused; see ``Recording.check``. It is left out
            when the block itself raises.

    Returns:
        A context manager, whose value is the ``Recording``.

    Raises:
        AssertionError: At the end of the block, by ``check``.
    """
    made = Recording()
    if forks:
        made.follow_forks()
    begin(made._take)
    try:
        yield made
    finally:
        end(made._take)
        made._close()
    if check:
        made.check()
