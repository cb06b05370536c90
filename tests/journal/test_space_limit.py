"""Who makes room: one call at a time, and always somebody, whatever comes between."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.stepping import Shuffle, codes_of, stepped
from whisperr import _atomic
from whisperr._journal import space_limit
from whisperr._journal.space_limit import SpaceLimit

SIZE = 1000  # bytes of a segment
MOST = 5 * SIZE


class Folder:
    """Segments of a journal, and the limit over them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropping = self.most_dropping = self.dropped = 0
        self.failures: list[OSError] = []
        self.limit = SpaceLimit(MOST, lambda: str(path), self.drop_oldest, self.failures.append)
        self._made = 0

    def make(self) -> None:
        self._made += 1
        name = f"{'ab' * 10}-01234567-{self._made:08x}.seg"
        (self.path / name).write_bytes(bytes(SIZE))
        self.limit.made(SIZE)

    def drop_oldest(self) -> bool:
        self.dropping += 1
        self.most_dropping = max(self.most_dropping, self.dropping)
        for path in sorted(self.path.iterdir())[:1]:
            path.unlink()
            self.dropped += 1
        self.dropping -= 1
        return True

    def used(self) -> int:
        return SIZE * len(list(self.path.iterdir()))


CODES = codes_of(space_limit, _atomic)


@pytest.mark.parametrize("seed", range(6))
def test_two_never_drop_at_once(tmp_path: Path, seed: int) -> None:
    """Eight threads that make segments and change after each instruction: one drops at a time, none
    more than has to go, and the limit holds.
    """
    folder = Folder(tmp_path)

    def work() -> None:
        for _ in range(5):
            folder.make()

    shuffle = Shuffle(seed, [work] * 8, {*CODES, Folder.drop_oldest.__code__})
    shuffle.run()
    assert shuffle.steps > 1000, "nothing was interrupted"
    assert folder.failures == []
    assert folder.most_dropping == 1
    assert folder.dropped > 0
    assert MOST - SIZE <= folder.used() <= MOST


def test_an_exception_at_any_instruction_leaves_the_limit(tmp_path: Path) -> None:
    """Out of a signal handler, before any instruction of the trimming: the next rotation makes up
    for it.
    """
    folder = Folder(tmp_path)
    for _ in range(8):
        folder.make()
    raised = 0
    while True:
        left = [raised]

        def step(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        try:
            with stepped(CODES, step):
                folder.make()
            break  # there is no such instruction any more
        except KeyboardInterrupt:
            raised += 1
        folder.make()
        assert folder.used() <= MOST, f"after an exception at instruction {raised}"
    assert raised > 50, "nothing was raised"
