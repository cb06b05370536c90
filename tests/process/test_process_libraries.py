"""Libraries that make processes as ``multiprocessing`` does: their children deliver at their clean ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from whisperr.sandbox import Sandbox

SOURCE = """
client = new_client(flush_interval=600, shutdown_timeout=60)


def task(n):
    track(client, [n])


if __name__ == "__main__":
    import {library}

    context = {library}.get_context({method!r})
    if {pool}:
        pool = context.Pool(2)
        pool.map(task, range(8))
        pool.close()
        pool.join()
    else:
        processes = [context.Process(target=task, args=(n,)) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, process
"""


@pytest.mark.parametrize("pool", [False, True], ids=["Process", "Pool"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("library", ["multiprocessing", "multiprocess", "billiard"])
def test_children_of_a_library_deliver(
    server: Sandbox, key: str, tmp_path: Path, library: str, method: str, pool: bool
) -> None:
    """A joined process, and the workers of a pool that is closed and joined."""
    if library == "billiard" and method == "spawn" and sys.version_info < (3, 10):
        method = "fork"  # there it does not find the functions of the main module
    if library == "multiprocess" and sys.version_info >= (3, 15) and (pool or method == "spawn"):
        pytest.skip("dill can't pickle a function there: it asks for code.co_lnotab")
    run_app(server, key, tmp_path, SOURCE.format(library=library, method=method, pool=pool))
    assert_arrived(server, key, range(8 if pool else 4))


def test_what_a_pool_of_billiard_wants_done_at_an_exit(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Its own ``on_process_exit`` runs before the delivery, once in each worker, and may track."""
    source = """
        import glob
        from billiard.pool import Pool
        client = new_client(flush_interval=600, shutdown_timeout=60)

        def task(n):
            open("worker-%d" % os.getpid(), "w").close()
            while len(glob.glob("worker-*")) < 2:  # until each has had one
                time.sleep(0.005)
            track(client, [n])

        def last(pid, status):
            track(client, [1000 + pid])
            print(1000 + pid, flush=True)

        pool = Pool(2, on_process_exit=last)
        pool.map(task, range(8), chunksize=1)
        pool.close()
        pool.join()
    """
    done = run_app(server, key, tmp_path, source)
    last = [int(number) for number in done.stdout.split()]
    assert len(last) == 2, done
    assert_arrived(server, key, [*range(8), *last])
