"""A warm parent that forks processes which SIGKILL themselves at one instruction of the journal.

Run as a program by ``killing.py``: takes orders on stdin and answers on stdout, a line of JSON each.

    {"do": "live", "life": "plain", "seed": 1, "at": null, ...}    a process lives one of LIVES
    {"do": "clean", ...}                      a clean process flushes and leaves: its stats()
with ``url``, ``key``, ``folder`` of the journal, ``notes`` (a file: one line for each call that
returned) and ``written``: whether to append by write(2), as where a map is no promise.

``at`` is an instruction and how often it has to be reached first: [file, function, first line,
offset, times]. Without one the process lives to its end, and the answer holds how often each
instruction of the journal was reached.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from types import FrameType
from typing import Any, Callable

import whisperr._delivery.transport  # before the forks, not after each
import whisperr._journal.journal
import whisperr._journal.ownership
from whisperr import Whisperr

NEVER = 1_000_000
STEPS = ("line", "opcode")  # 3.12 and 3.13 tell of no opcodes in a function's very first call
JOURNAL = os.path.dirname(whisperr._journal.journal.__file__)
FILLER = "x" * 20_000  # three such events fill the first segment, six each later one
LIMIT = 1 << 20  # bytes of the journal

Order = Any


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        answer = {"live": live, "clean": clean}[order["do"]](order)
        print(json.dumps(answer), flush=True)


def live(order: Order) -> Order:
    """The dead process first, whose journal the life finds. Then the life itself."""
    assert forked(lambda tell: leave_behind(order)) == {"signal": signal.SIGKILL}
    return forked(lambda tell: _live(order, tell))


def _live(order: Order, tell: Callable[[Order], None]) -> None:
    if order["at"]:
        trace(killer(*order["at"]))
        LIVES[order["life"]](order)
    else:
        reached: Counter[Any] = Counter()
        trace(counter(reached))
        LIVES[order["life"]](order)
        sys.settrace(None)
        tell([[*where, times] for where, times in list(reached.items())])


def clean(order: Order) -> Order:
    return forked(lambda tell: _clean(order, tell))


def _clean(order: Order, tell: Callable[[Order], None]) -> None:
    client = new_client(order)
    settled = client.flush(30)
    stats = client.stats()
    client.shutdown(10)
    tell({"settled": settled, "stats": stats})


def forked(what: Callable[[Callable[[Order], None]], None]) -> Order:
    """What a child tells, or by which signal it ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            what(lambda told: _write(write, json.dumps(told)))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    assert status == 0, f"ended with {status:#x}"
    return {"signal": 0, "told": json.loads(told) if told else None}


def _write(fd: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(fd, data) :]


# --- the instructions

Trace = Callable[[FrameType, str, Any], Any]


def trace(function: Trace) -> None:
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for it when the function is set
    threading.settrace(function)
    sys.settrace(function)


def where_is(frame: FrameType) -> tuple[str, str, int]:
    code = frame.f_code
    return os.path.basename(code.co_filename), code.co_name, code.co_firstlineno


def is_of_journal(frame: FrameType) -> bool:
    return os.path.dirname(frame.f_code.co_filename) == JOURNAL


def watched(frame: FrameType, function: Trace) -> Trace:
    frame.f_trace_opcodes = True
    return function


def counter(reached: Counter[Any]) -> Trace:
    def at_opcode(frame: FrameType, event: str, argument: object) -> Trace:
        if event in STEPS:
            reached[(*where_is(frame), frame.f_lasti)] += 1
        return at_opcode

    def at_call(frame: FrameType, event: str, argument: object) -> Trace | None:
        return watched(frame, at_opcode) if is_of_journal(frame) else None

    return at_call


def killer(file: str, function: str, line: int, offset: int, times: int) -> Trace:
    left = iter(range(times - 1, -1, -1))

    def at_opcode(frame: FrameType, event: str, argument: object) -> Trace:
        if event in STEPS and frame.f_lasti == offset and next(left, 0) == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # every thread stops here: we have the lock
        return at_opcode

    def at_call(frame: FrameType, event: str, argument: object) -> Trace | None:
        code = frame.f_code
        if code.co_name != function or code.co_firstlineno != line or not is_of_journal(frame):
            return None
        return watched(frame, at_opcode) if where_is(frame)[0] == file else None

    return at_call


# --- the lives


def new_client(order: Order, **options: Any) -> Whisperr:
    if order["written"]:
        whisperr._journal.ownership.can_map = lambda device: False
    patient = {"flush_at": NEVER, "flush_interval": NEVER, "max_retries": 0}
    return Whisperr(
        order["key"],
        base_url=order["url"],
        journal_dir=order["folder"],
        max_journal_bytes=LIMIT,
        **{**patient, **options},
    )


class Notes:
    """Calls, and a note of each that returned."""

    def __init__(self, order: Order, client: Whisperr) -> None:
        self._file = os.open(order["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._client = client

    def track(self, *numbers: int) -> None:
        """Every third brings its own id, every third its own context; all are large."""
        for n in numbers:
            more: dict[str, Any] = [{}, {"message_id": f"own-{n}"}, {"context": {"ip": "::1"}}][
                n % 3
            ]
            self._client.track(f"user_{n}", "it_happened", {"n": n, "filler": FILLER}, **more)
            os.write(self._file, b"event %d\n" % n)

    def identify(self, n: int) -> None:
        self._client.identify(f"known_{n}", traits={"n": n})
        os.write(self._file, b"identity %d\n" % n)


def leave_behind(order: Order) -> None:
    """Deliver and settle some, then be killed with two segments on disk."""
    threading.Thread.start = no_thread  # type: ignore  # so that nothing is delivered but by flush
    client = new_client(order)
    notes = Notes(order, client)
    for n in (900, 901):
        notes.track(n)
        client.flush(20)
    notes.track(*range(902, 906))
    notes.identify(906)
    os.kill(os.getpid(), signal.SIGKILL)


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def plain(order: Order) -> None:
    """Adopt; append, rotate, settle, delete; retire at a shutdown."""
    client = new_client(order)
    notes = Notes(order, client)
    notes.track(*range(4))
    notes.identify(4)
    client.flush(20)
    notes.track(*range(5, 20))
    client.flush(20)
    notes.track(*range(20, 23))
    client.shutdown(20)


def spilling(order: Order) -> None:
    """More than memory holds, with a server that fails first: spill, load, and the rest at exit."""
    client = new_client(order, max_queue_size=4)
    notes = Notes(order, client)
    notes.track(0)
    client.flush(20)  # which fails
    notes.track(*range(1, 15))
    client.flush(20)
    notes.track(*range(15, 22))
    notes.identify(22)
    run_exit_handlers()


def dropping(order: Order) -> None:
    """More than the disk may hold, with a server that always fails: rotate and drop."""
    client = new_client(order)
    notes = Notes(order, client)
    notes.track(*range(70))
    client.flush(20)
    client.shutdown(0)


def run_exit_handlers() -> None:
    """What ``atexit`` would run, and no more of the interpreter's own end."""
    from whisperr._process import exits

    exits.run()


LIVES: dict[str, Callable[[Order], None]] = {
    "plain": plain,
    "spilling": spilling,
    "dropping": dropping,
}

if __name__ == "__main__":
    main()
