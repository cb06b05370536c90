"""Code run instruction by instruction: threads change, or an exception comes, just where a test says.

By ``sys.monitoring`` where there is one (3.12 crashes when several threads trace instructions),
else by ``sys.settrace``.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Callable

from support.clients import DEADLINE

Step = Callable[[], object]  # before an instruction; True: that was the last one
_steps: dict[int, Step] = {}  # by thread


def codes_of(*modules: Any) -> set[CodeType]:
    """Of all functions, methods and properties of these modules."""
    found = set()
    for module in modules:
        for part in vars(module).values():
            for member in (part, *(vars(part).values() if isinstance(part, type) else ())):
                function = getattr(member, "__func__", getattr(member, "fget", member))
                code = getattr(function, "__code__", None)
                if code is not None and code.co_filename == module.__file__:
                    found.add(code)
    assert found
    return found


@contextmanager
def stepped(codes: set[CodeType], step: Step) -> Iterator[None]:
    """In this thread: ``step`` before each instruction of these functions, until it raises."""
    with _watched(codes):
        _steps[threading.get_ident()] = step
        try:
            yield
        finally:
            _steps.pop(threading.get_ident(), None)


def _take_step() -> None:
    me = threading.get_ident()
    step = _steps.get(me)
    if step is not None:
        is_last = True
        try:
            is_last = step() is True
        finally:
            if is_last:
                _steps.pop(me, None)


if sys.version_info >= (3, 12):
    _TOOL = 4
    _watching = threading.Lock()
    _depth = [0]

    @contextmanager
    def _watched(codes: set[CodeType]) -> Iterator[None]:
        monitoring = sys.monitoring
        with _watching:
            _depth[0] += 1
            if _depth[0] == 1:
                monitoring.use_tool_id(_TOOL, "stepping")
                event = monitoring.events.INSTRUCTION
                monitoring.register_callback(_TOOL, event, lambda code, offset: _take_step())
                for code in codes:
                    monitoring.set_local_events(_TOOL, code, event)
        try:
            yield
        finally:
            with _watching:
                _depth[0] -= 1
                if _depth[0] == 0:
                    for code in codes:
                        monitoring.set_local_events(_TOOL, code, 0)
                    monitoring.free_tool_id(_TOOL)

else:

    @contextmanager
    def _watched(codes: set[CodeType]) -> Iterator[None]:
        def at_step(frame: FrameType, event: str, argument: object) -> Any:
            if event == "opcode":
                _take_step()
            return at_step

        def at_call(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code not in codes:
                return None
            frame.f_trace_opcodes = True
            return at_step

        before = sys.gettrace()
        sys.settrace(at_call)
        try:
            yield
        finally:
            sys.settrace(before)


class Shuffle:
    """Threads of which one runs at a time, another one after each instruction, by lot."""

    def __init__(self, seed: int, works: list[Callable[[], object]], codes: set[CodeType]) -> None:
        self.steps = 0
        self.errors: list[BaseException] = []
        self._lots = random.Random(seed)
        self._codes = codes
        self._may_run = {n: threading.Semaphore(0) for n in range(len(works))}
        self._running = list(self._may_run)
        self._threads = [
            threading.Thread(target=self._run, args=(n, work)) for n, work in enumerate(works)
        ]

    def run(self) -> None:
        """To the end of all."""
        with stepped(self._codes, lambda: None):
            for thread in self._threads:
                thread.start()
            self._may_run[self._lots.choice(self._running)].release()
            for thread in self._threads:
                thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self.errors, self.errors

    def _run(self, me: int, work: Callable[[], object]) -> None:
        self._wait(me)
        try:
            with stepped(self._codes, lambda: self._change(me)):
                work()
        except BaseException as error:
            self.errors.append(error)
        self._running.remove(me)
        if self._running:
            self._may_run[self._lots.choice(self._running)].release()

    def _change(self, me: int) -> None:
        self.steps += 1
        other = self._lots.choice(self._running)
        if other != me:
            self._may_run[other].release()
            self._wait(me)

    def _wait(self, me: int) -> None:
        if not self._may_run[me].acquire(timeout=DEADLINE):
            raise TimeoutError("no other thread gave way")
