"""A thread of its own for one wait, so that an event loop can await it.

Not the loop's default executor: that is shut down before the loop is, and refuses everything once
the exit of the process has begun, which is just when an application waits for a delivery.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Callable

from whisperr._process import exits

if TYPE_CHECKING:
    import asyncio


async def in_thread(wait: Callable[[], bool]) -> bool:
    """What ``wait`` returns. Cancelled, it leaves the thread to itself, and its answer to nobody.

    Where there is no loop of asyncio, or no thread can be started (too late in the process), the
    caller's thread waits itself.
    """
    import asyncio  # here: it costs more than all the rest, and few need it

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio
        return wait()
    answer: asyncio.Future[bool] = loop.create_future()

    def run() -> None:
        settled, raised = False, None
        try:
            settled = wait()
        except BaseException as error:
            raised = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_tell, answer, settled, raised)

    try:
        is_daemon = exits.HAS_DAEMON_THREADS  # else it is waited for, as long as its time-out says
        threading.Thread(target=run, name="whisperr-await", daemon=is_daemon).start()
    except RuntimeError:
        return wait()
    return await answer


def _tell(answer: asyncio.Future[bool], settled: bool, raised: BaseException | None) -> None:
    if answer.done():  # cancelled
        return
    if raised is None:
        answer.set_result(settled)
    else:
        answer.set_exception(raised)
