"""max_journal_bytes: after a rotation the oldest segments held here go, until the limit holds.

Guarantees:
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


class SpaceLimit:
    """For all processes of one folder together; what is dropped is held by this one."""

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

    def made(self, size: int) -> None:
        """A segment of that size was made.

        A look at the folder is spared while this process has made but a part of the room there
        was: others may have made more.
        """
        self._made += size
        if self._made * _SHARES < self._room or not self._trimming.take():
            return
        try:
            self._made = 0
            self._trim(self._open_folder())
        except OSError as error:
            self._on_failure(error)
        finally:
            self._trimming.release()

    def _trim(self, folder: str) -> None:
        while True:
            self._room = self._max_bytes - used_bytes(folder)
            if self._room >= 0 or not self._drop_oldest():
                return
