"""max_journal_bytes: before a segment is made the oldest go, until there is room for it.

Guarantees:
    A segment takes an eighth of what each writer's part of the room in the folder is, or what one
    record needs, and leaves 32 KiB, or 4 KiB a writer: so that 64 processes which make small ones in
    the same moment stay under the limit, and those that came to the same room one after the other,
    each of which goes on for a while without another look. Only a record that is as large as the
    limit goes beyond, by itself, and the oldest go after it.
    At most one call at a time drops segments, so that two don't drop one too many each.
    Nobody waits: who comes second leaves it to the first, which looks at the folder again
    after each drop.
Lock-free: see Turn. _room, _writers and _made are estimates, which a race may leave a little too small or
    too large; they decide only how soon the folder is looked at again.
An exception in the middle leaves the turn free (it ends with the call) and the segments that are
    too many to the next rotation.
"""

from __future__ import annotations

from typing import Callable

from whisperr._atomic import Turn
from whisperr._journal.folder import usage

_SHARES = 8  # of a writer's part: the k-th that comes takes a k-th, and all of them not one room
_MARGIN = 32 * 1024  # bytes that stay free
_MARGIN_OF_ONE = 4 * 1024  # bytes, likewise for each writer
_MOST_MARGIN = 8  # a part of the limit
_MOST_WRITERS = 64  # beyond that many, what is a writer is mostly dead, and was not adopted yet


class SpaceLimit:
    """For all processes of one folder together; what is dropped belongs to this one, or to a dead one."""

    def __init__(
        self,
        max_bytes: int,
        open_folder: Callable[[], str],
        drop_oldest: Callable[[], bool],
        on_failure: Callable[[OSError], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._open_folder = open_folder
        self._drop_oldest = drop_oldest  # False: nothing may be dropped
        self._on_failure = on_failure
        self._trimming = Turn()
        self._room = 0  # bytes in the folder up to the limit, when it was last looked at
        self._writers = 1  # who may write there, likewise
        self._made = 0  # bytes since then

    def allowed(self, wanted: int, least: int, may_drop: bool) -> int:
        """How large the next segment may be; 0: there is no room for ``least``, and none to be made.

        ``may_drop``: it is worth dropping records, as a note of what is settled is not. A look at the folder is spared as in made(). OSError: the folder can't be looked at.
        """
        if least + _MARGIN > self._max_bytes:
            return least
        if (self._made + wanted) * self._shares > self._room and self._trimming.take():
            try:
                self._made = 0
                self._trim(self._open_folder(), lambda: not may_drop or self._has_room(least))
            finally:
                self._trimming.release()
            if not self._has_room(least):
                return 0
        return max(least, min(wanted, self._room // self._shares))

    def made(self, size: int) -> None:
        """A segment of that size was made.

        A look at the folder is spared while this process has made but a part of the room there
        was: others may have made more.
        """
        self._made += size
        if self._made * self._shares <= self._room or not self._trimming.take():
            return
        try:
            self._made = 0
            self._trim(self._open_folder(), lambda: self._room >= 0)
        except OSError as error:
            self._on_failure(error)
        finally:
            self._trimming.release()

    @property
    def _shares(self) -> int:
        return _SHARES * self._writers

    def _has_room(self, least: int) -> bool:
        """For so much, beside what stays free."""
        margin = min(_MARGIN_OF_ONE * self._writers, self._max_bytes // _MOST_MARGIN)
        return self._room >= least + max(_MARGIN, margin)

    def _trim(self, folder: str, is_enough: Callable[[], bool]) -> None:
        """Look how much room there is, and make some until it is enough."""
        while True:
            used, writers = usage(folder)
            self._room = self._max_bytes - used
            self._writers = max(1, min(writers, _MOST_WRITERS))
            if is_enough() or not self._drop_oldest():
                return
