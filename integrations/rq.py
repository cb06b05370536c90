"""Worker classes for ``rq worker`` and ``rq worker-pool``. ::

    rq worker -w whisperr.integrations.rq.Worker

rq forks or spawns a work horse for each job, and ends it without an exit handler of Python. These
deliver what the job tracked before the horse ends. ``SimpleWorker`` needs nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from whisperr import lifecycle

try:
    import rq.worker
except ImportError as error:
    raise ImportError("whisperr.integrations.rq needs rq: pip install 'rq>=2.3'") from error

__all__ = ["DeliveringHorse", "SpawnWorker", "Worker"]

logger = logging.getLogger("whisperr")

if TYPE_CHECKING:
    _Base = rq.worker.Worker
else:
    _Base = object


class DeliveringHorse(_Base):
    """For worker classes of your own: name it before rq's, as ``class Mine(DeliveringHorse, Worker)``.

    The horse delivers when its job has ended, well or by an exception, a time-out included, and
    when it is sent SIGTERM; for ``shutdown_timeout`` at most. By then the job's result is stored. A
    horse whose job tracked nothing ends as it would have. With a journal the worker itself, where
    it has imported what makes the client, delivers what a killed horse left.
    """

    def perform_job(self, *args: Any, **options: Any) -> bool:
        """rq's own, and in a horse the delivery."""
        try:
            return super().perform_job(*args, **options)
        finally:
            if self.is_horse:
                lifecycle.shutdown_all()  # nothing runs after this

    def setup_work_horse_signals(self) -> None:
        """rq's own, and a delivery at SIGTERM where rq leaves it to Python."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        lifecycle.deliver_on_signals()  # a supervisor may signal the whole group

    def wait_for_horse(self) -> Any:
        """rq's own; after a horse that was killed, the senders of this worker are started."""
        ended = super().wait_for_horse()
        if ended[1]:  # its status: killed, or failed beyond its job
            logger.debug(
                "whisperr: an rq work horse ended with %#x: looking at what it left", ended[1]
            )
            lifecycle.start_all()
        return ended


class Worker(DeliveringHorse, rq.worker.Worker):
    """rq's own, with a horse that delivers."""


class SpawnWorker(DeliveringHorse, rq.worker.SpawnWorker):
    """rq's own, likewise. It needs rq 3: before, the spawned horse does not know of its class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if not hasattr(rq.worker.SpawnWorker, "_dump_worker_config"):
            raise RuntimeError("whisperr.integrations.rq.SpawnWorker needs rq 3")
        super().__init__(*args, **options)
