"""max_journal_bytes: before a segment is made the oldest go, until there is room for it.

Guarantees:
    A segment takes an eighth of the room in the folder, or what one record needs, and leaves
    32 KiB: so that eight processes which make one in the same moment stay under the limit. Only a
    record that is as large as the limit goes beyond, by itself, and the oldest go after it.
    At most one call at a time drops segments, so that two don't drop one too many each.
    Nobody waits: who comes second leaves it to the first, which looks at the folder again
    after each drop.
Lock-free: see Turn. _room and _made are estimates, which a race may leave a little too small or
    too large; they decide only how soon the folder is looked at again.
An exception in the middle leaves the turn free (it ends with the call) and the segments that are
    too many to the next rotation.
"""

from __future__ import annotations

from typing import Callable

from whisperr._atomic import Turn
from whisperr._journal.folder import used_bytes

_SHARES = 8  # processes that may write as fast as this one, before a look at the folder
_MARGIN = 32 * 1024  # bytes that stay free


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
        self._made = 0  # bytes since then

    def allowed(self, wanted: int, least: int, may_drop: bool) -> int:
        """How large the next segment may be; 0: there is no room for ``least``, and none to be made.

        ``may_drop``: it is worth dropping records, as a note of what is settled is not. A look at the folder is spared as in made(). OSError: the folder can't be looked at.
        """
        needed = least + _MARGIN
        if needed > self._max_bytes:
            return least
        if (self._made + wanted) * _SHARES > self._room and self._trimming.take():
            try:
                self._made = 0
                self._trim(self._open_folder(), needed if may_drop else None)
            finally:
                self._trimming.release()
            if self._room < needed:
                return 0
        return max(least, min(wanted, self._room // _SHARES))

    def made(self, size: int) -> None:
        """A segment of that size was made.

        A look at the folder is spared while this process has made but a part of the room there
        was: others may have made more.
        """
        self._made += size
        if self._made * _SHARES <= self._room or not self._trimming.take():
            return
        try:
            self._made = 0
            self._trim(self._open_folder())
        except OSError as error:
            self._on_failure(error)
        finally:
            self._trimming.release()

    def _trim(self, folder: str, room: int | None = 0) -> None:
        """Look how much room there is, and make some. None: only look."""
        while True:
            self._room = self._max_bytes - used_bytes(folder)
            if room is None or self._room >= room or not self._drop_oldest():
                return
