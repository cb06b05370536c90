"""Forks of every kind: what parent and children track arrives, each event once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from whisperr.sandbox import Sandbox

# --- 10 events queued in the parent, 4 children with 100 each

# Nothing but an exit, or a shutdown(), delivers these.
QUEUED = """
client = new_client(flush_at=1_000, flush_interval=600)

def queue_ten():
    track(client, range(10))
    assert client.stats()["pending"] == 10, client.stats()

def numbers(child):
    return range(1000 * child, 1000 * child + 100)

def work(child):
    assert client.stats()["pending"] == 0, client.stats()
    track(client, numbers(child))

def work_and_shutdown(child):
    work(child)
    assert client.shutdown()

"""

OS_FORK = """
queue_ten()
reap([fork(work, child) for child in (1, 2, 3, 4)])
"""

OS_FORK_SHUTDOWN = """
def child_main(child):
    work_and_shutdown(child)
    os._exit(0)

queue_ten()
reap([fork(child_main, child) for child in (1, 2, 3, 4)])
"""

# Children fork before they deliver: what they queued is theirs, as the parent's is the parent's.
NESTED = """
def child_main(child):
    work(child)
    reap([fork(work, child + 1)])

queue_ten()
reap([fork(child_main, child) for child in (1, 3)])
"""

DAEMONS = """
def daemonize(child):
    os.setsid()
    if os.fork():
        os._exit(0)
    work(child)

queue_ten()
reap([fork(daemonize, child) for child in (1, 2, 3, 4)])
"""

PROCESS = """
import multiprocessing

def run(kind, target, *more):
    context = multiprocessing.get_context(kind)
    processes = [context.Process(target=target, args=(n, *more)) for n in (1, 2, 3, 4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, process.exitcode

def work_with(child, given):
    assert given is not client
    track(given, numbers(child))

"""
PROCESS_FORK = """
queue_ten()
run("fork", work)
"""
PROCESS_FORK_SHUTDOWN = """
queue_ten()
run("fork", work_and_shutdown)
"""
PROCESS_PASSED = """
if __name__ == "__main__":
    queue_ten()
    run({kind!r}, work_with, client)
"""
PROCESS_IMPORTED = """
if __name__ == "__main__":
    queue_ten()
    run({kind!r}, work)
"""

# The barrier keeps a quick child from taking the task of another.
POOL = """
import multiprocessing

context = multiprocessing.get_context("fork")
all_there = context.Barrier(4)

def task(child):
    all_there.wait(20)
    work(child)

queue_ten()
"""
POOL_JOINED = """
pool = context.Pool(4)
pool.map(task, (1, 2, 3, 4), chunksize=1)
pool.close()
pool.join()
"""
EXECUTOR = """
from concurrent.futures import ProcessPoolExecutor

with ProcessPoolExecutor(4, mp_context=context) as executor:
    list(executor.map(task, (1, 2, 3, 4)))
"""

KINDS = {
    "os.fork": OS_FORK,
    "os.fork+shutdown": OS_FORK_SHUTDOWN,
    "nested": NESTED,
    "daemons": DAEMONS,
    "Process-fork": PROCESS + PROCESS_FORK,
    "Process-fork+shutdown": PROCESS + PROCESS_FORK_SHUTDOWN,
    "Process-spawn-passed": PROCESS + PROCESS_PASSED.format(kind="spawn"),
    "Process-spawn-imported": PROCESS + PROCESS_IMPORTED.format(kind="spawn"),
    "Process-forkserver-passed": PROCESS + PROCESS_PASSED.format(kind="forkserver"),
    "Process-forkserver-imported": PROCESS + PROCESS_IMPORTED.format(kind="forkserver"),
    "Pool": POOL + POOL_JOINED,
    "ProcessPoolExecutor": POOL + EXECUTOR,
}


@pytest.mark.parametrize("kind", KINDS)
def test_ten_in_the_parent_and_a_hundred_in_each_of_four_children(
    server: Sandbox, key: str, tmp_path: Path, kind: str
) -> None:
    """What is queued at a fork stays the parent's; what a child tracks arrives when it exits."""
    run_app(server, key, tmp_path, QUEUED + KINDS[kind])
    children = [n for child in (1, 2, 3, 4) for n in range(1000 * child, 1000 * child + 100)]
    assert_arrived(server, key, [*range(10), *children])


# --- forks that run hooks where one does not expect them, or none


def test_a_child_by_preexec_fn_harms_nobody(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A subprocess with a preexec_fn runs the at-fork hook in a child that only executes another
    program, or tracks before: the parent goes on, and what that child flushed arrives.
    """
    source = """
        import subprocess
        client = new_client()
        track(client, range(10))
        command = [sys.executable, "-c", "print('executed')"]

        def before_exec():
            track(client, range(100, 105))
            assert client.flush()

        for preexec_fn in (lambda: None, before_exec):
            said = subprocess.run(command, preexec_fn=preexec_fn, stdout=subprocess.PIPE).stdout
            assert said == b"executed\\n", said
        track(client, range(10, 20))
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [*range(20), *range(100, 105)])


def test_a_child_by_forkpty(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A child of os.forkpty has a queue of its own, as any."""
    source = """
        client = new_client()
        track(client, range(10))
        pid, terminal = os.forkpty()
        if pid == 0:
            track(client, range(100, 105))
            sys.exit(0)
        reap([pid])
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [*range(10), *range(100, 105)])


# PyDLL keeps the interpreter's lock, so the child has it: CDLL would leave it to nobody.
WITHOUT_HOOKS = """
import ctypes
import threading
import traceback

def fork_without_hooks(child, *arguments):
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        status = 1
        try:
            child(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid

def wait_until_idle():
    # No other thread ran during three naps in a row, so none waits for the interpreter.
    seen, quiet = None, 0
    deadline = time.monotonic() + 200
    while quiet < 3:
        assert time.monotonic() < deadline, seen
        time.sleep(0.005)
        before, seen = seen, switches()
        quiet = quiet + 1 if seen == before else 0

def switches():
    found = {}
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open("/proc/self/task/%s/status" % task) as status:
                found[task] = [line for line in status if "ctxt_switches" in line]
    return found

"""
IDLE_PARENT = (
    WITHOUT_HOOKS
    + """
client = new_client(flush_interval=600)
track(client, range(10))
wait_until_idle()

"""
)


@pytest.mark.parametrize("end", ["flush", "shutdown"])
def test_a_fork_that_runs_no_hooks(server: Sandbox, key: str, tmp_path: Path, end: str) -> None:
    """A fork made in C runs no hook at all: the child finds out by its process id."""
    source = (
        IDLE_PARENT
        + f"""
def child_main(child):
    track(client, range(100 * child, 100 * child + 50))
    assert client.{end}()

reap([fork_without_hooks(child_main, child) for child in (1, 2, 3, 4)])
track(client, range(10, 20))
"""
    )
    run_app(server, key, tmp_path, source)
    children = [n for child in (1, 2, 3, 4) for n in range(100 * child, 100 * child + 50)]
    assert_arrived(server, key, [*range(20), *children])


def test_two_threads_find_out_about_such_a_fork_at_once(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Two threads racing for the first event of a child that ran no hook share one queue."""
    source = (
        IDLE_PARENT
        + """
def child_main(child):
    sys.setswitchinterval(1e-6)
    together = threading.Barrier(2)

    def racer(base):
        together.wait(20)
        track(client, range(base, base + 5))

    threads = [threading.Thread(target=racer, args=(1000 * child + b,)) for b in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.stats()["accepted"] == 10, client.stats()
    assert client.shutdown()
    assert client.stats()["delivered"] == 10, client.stats()

for child in range(1, 41):
    reap([fork_without_hooks(child_main, child)])
"""
    )
    run_app(server, key, tmp_path, source)
    children = [
        n for c in range(1, 41) for b in (0, 100) for n in range(1000 * c + b, 1000 * c + b + 5)
    ]
    assert_arrived(server, key, [*range(10), *children])


def test_the_first_call_after_such_a_fork_may_be_refused(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """In a child that ran no hook, even a call whose arguments raise raises nothing, and counts
    in the child's own ledger.
    """
    source = (
        IDLE_PARENT
        + """
class Raises:
    def __bool__(self):
        raise ValueError("neither")

def child_main():
    client.track("user", Raises())
    client.identify(Raises())
    stats = client.stats()
    assert (stats["accepted"], stats["dropped"]) == (2, {"refused": 2}), stats
    assert client.shutdown()

reap([fork_without_hooks(child_main)])
assert client.stats()["dropped"] == {}, client.stats()
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(10))


# --- locks held at the fork

# Every lock that can be reached from the client is taken by another thread during the fork.
HOLD_ALL_LOCKS = """
import _thread
import gc
import threading
import types

LOCKS = (type(_thread.allocate_lock()), type(threading.RLock()))
FOREIGN = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, threading.Thread)

def locks_of(root):
    seen, found, queue = {id(root)}, [], [root]
    while queue:
        for item in gc.get_referents(queue.pop()):
            if id(item) in seen or isinstance(item, FOREIGN):
                continue
            seen.add(id(item))
            if isinstance(item, LOCKS):
                found.append(item)
            elif isinstance(item, types.MethodType):
                queue.append(item.__self__)
            else:
                queue.append(item)
    return found

class Holder(threading.Thread):
    def __init__(self, locks):
        super().__init__()
        self.locks = locks
        self.held, self.forked = threading.Event(), threading.Event()

    def run(self):
        taken = [lock for lock in self.locks if lock.acquire(False)]
        print(len(self.locks), len(taken), flush=True)
        self.held.set()
        self.forked.wait(20)
        for lock in taken:
            lock.release()

"""


def test_every_lock_of_the_client_and_its_pools_held_at_the_fork(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """With every lock that is reachable from the client held by another thread at the fork, those
    of urllib3's pools included, a child delivers and exits, and so does the parent.
    """
    source = (
        HOLD_ALL_LOCKS
        + """
client = new_client()
track(client, range(10))
assert client.flush()
managers = [o for o in gc.get_objects() if type(o).__name__ == "PoolManager"]
queues = [pool.pool for manager in managers for pool in manager.pools._container.values()]
assert queues, "no open pool"
locks = locks_of(client) + [manager.pools.lock for manager in managers]
locks += [queue.mutex for queue in queues if hasattr(queue, "mutex")]
locks = list({id(lock): lock for lock in locks}.values())

holder = Holder(locks)
holder.start()
holder.held.wait(20)

def child_main(child):
    track(client, range(100 * child, 100 * child + 5))
    if child == 2:
        assert client.flush()
    gc.collect()

pids = [fork(child_main, child) for child in (1, 2, 3)]
reap(pids)
holder.forked.set()
holder.join()
track(client, range(10, 20))
"""
    )
    done = run_app(server, key, tmp_path, source)
    _, taken = map(int, done.stdout.split())
    assert taken >= 3, done.stdout  # the worker's own two, and the pools'
    children = [n for child in (1, 2, 3) for n in range(100 * child, 100 * child + 5)]
    assert_arrived(server, key, [*range(20), *children])


def test_nothing_is_imported_after_the_construction(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Neither the first calls of a process nor a delivery with its retries import anything: a fork,
    or a signal handler that tracks, in the middle of an import would find a locked or half-made
    module.
    """
    retry_at = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.inject(
        key,
        {"do": "reset"},
        {"do": "status", "status": 503, "headers": retry_at},
        {"do": "refuse", "where": {"properties.n": 3}},
    )
    source = """
        client = new_client(on_error=lambda error: None)
        before = set(sys.modules)
        track(client, range(10))
        client.track("user", "Not Snake")
        client.identify("user", traits={"n": 1}, email="user@example.org")
        assert client.flush(20)
        client.stats()
        assert client.shutdown()
        assert set(sys.modules) == before, set(sys.modules) - before
    """
    run_app(server, key, tmp_path, source)
    ledger = server.ledger(key)
    assert (ledger["arrived"], ledger["identities"], ledger["twice"]) == (9, 1, 0), ledger


# --- what a child starts with


@pytest.mark.parametrize("hooks", [True, False], ids=["hooks", "no-hooks"])
def test_a_client_shut_down_before_the_fork_stays_so(
    server: Sandbox, key: str, tmp_path: Path, hooks: bool
) -> None:
    """A client that was shut down before a fork refuses in the child too, reported there once."""
    fork = "fork" if hooks else "fork_without_hooks"
    source = (
        WITHOUT_HOOKS
        + f"""
errors = []
client = new_client(on_error=errors.append)
track(client, range(10))
assert client.shutdown()
wait_until_idle()

def child_main():
    track(client, range(100, 105))
    assert [(e.type, e.count) for e in errors] == [("dropped", 1)], errors
    assert client.stats()["dropped"] == {{"closed": 5}}, client.stats()
    assert "closed" in repr(client)
    assert client.flush() and client.shutdown()

reap([{fork}(child_main)])
assert not errors
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(10))


def test_a_childs_ledger_starts_from_zero(server: Sandbox, key: str, tmp_path: Path) -> None:
    """stats() of a child knows nothing of what its parent did, and the parent's nothing of the
    child's.
    """
    source = """
        new = new_client().stats()
        client = new_client()
        track(client, range(10))
        assert client.flush()
        client.track("user", "Not Snake")
        track(client, range(10, 15))
        before = client.stats()
        assert before["last_error"] and before["dropped"] == {"refused": 1}, before
        assert (before["delivered"], before["pending"]) == (10, 5), before

        def child_main():
            assert client.stats() == new, client.stats()
            track(client, range(100, 103))
            assert client.flush()
            after = client.stats()
            assert (after["accepted"], after["delivered"], after["pending"]) == (3, 3, 0), after

        reap([fork(child_main)])
        assert client.stats() == before, client.stats()
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [*range(15), *range(100, 103)])


def test_parent_and_children_mint_different_ids(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The message ids of parent, children and grandchildren have nothing in common, though all of
    them number their calls alike.
    """
    source = """
        client = new_client()
        track(client, range(10))

        def grandchild():
            track(client, range(300, 310))

        def child_main(child):
            track(client, range(100 * child, 100 * child + 10))
            if child == 2:
                reap([fork(grandchild)])

        reap([fork(child_main, child) for child in (1, 2)])
    """
    run_app(server, key, tmp_path, source)
    events = server.events(key)
    assert_arrived(server, key, [n for base in (0, 100, 200, 300) for n in range(base, base + 10)])
    prefixes: dict[int, set[str]] = {}
    for event in events:
        message_id = event["context"]["$message_id"]
        assert re.fullmatch("[0-9a-f]{32}", message_id), message_id
        prefixes.setdefault(event["properties"]["n"] // 100, set()).add(message_id[:20])
    assert [len(of_one) for of_one in prefixes.values()] == [1, 1, 1, 1], prefixes
    assert len(set.union(*prefixes.values())) == 4, prefixes


def test_a_child_never_speaks_on_its_parents_connection(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A connection that is open at the fork stays the parent's: the child opens its own, and the
    parent goes on using the old one.
    """
    source = """
        client = new_client()
        track(client, range(1))
        assert client.flush()

        def child_main():
            track(client, range(100, 102))
            assert client.flush()

        reap([fork(child_main)])
        track(client, range(1, 4))
        assert client.flush()
    """
    run_app(server, key, tmp_path, source)
    by_count = {request["count"]: request["connection"] for request in server.requests(key)}
    assert set(by_count) == {1, 2, 3}
    assert by_count[1] == by_count[3] != by_count[2]
    assert_arrived(server, key, [*range(4), 100, 101])


def test_hundreds_of_forks_leave_nothing_in_the_parent(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """After 300 forks the parent has the threads and the open files that it had before."""
    source = """
        client = new_client()
        track(client, range(10))
        assert client.flush()

        def found():
            return [len(os.listdir("/proc/self/" + what)) for what in ("task", "fd")]

        def child_main():
            track(client, [100])
            os._exit(0)

        before = found()
        for _ in range(300):
            reap([fork(child_main)])
        track(client, range(10, 20))
        assert client.flush()
        assert found() == before, (before, found())
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(20))


# --- forks inside a callback

FORKS_IN_CALLBACK = """
import queue

children = queue.Queue()

def on_error(error):
    if children.qsize() or os.getpid() != parent:
        return
    pid = os.fork()
    if pid:
        children.put(pid)
    else:
        in_the_child(error)

parent = os.getpid()
client = new_client(on_error=on_error)

"""
ENDS = {
    "returns": "pass",
    "exits-after-shutdown": "assert client.shutdown(); os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "raises": "raise ValueError('of the callback')",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_fork_in_on_error_in_the_senders_thread(
    server: Sandbox, key: str, tmp_path: Path, end: str
) -> None:
    """The child of an on_error that forks in the sender's thread delivers what it tracks and
    exits, however the callback ends; the parent goes on delivering.
    """
    server.inject(key, {"do": "status", "status": 401})
    source = (
        FORKS_IN_CALLBACK
        + f"""
def in_the_child(error):
    assert error.type == "auth", error
    track(client, range(100, 105))
    {ENDS[end]}

track(client, range(10))
assert client.flush() is False
reap([children.get(timeout=200)])
assert client.flush() is True
track(client, range(10, 20))
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [*range(20), *range(100, 105)])


REFUSED_CALLS = {
    "event-type": 'client.track("user", "Not Snake")',
    "raising-argument": 'client.track("user", Raises())',
    "raising-user": "client.identify(Raises())",
}


@pytest.mark.parametrize("call", REFUSED_CALLS)
def test_a_fork_in_on_error_in_the_callers_thread(
    server: Sandbox, key: str, tmp_path: Path, call: str
) -> None:
    """An on_error that forks when a call is refused returns twice, and so does the call, raising
    nothing: both processes go on with a client of their own.
    """
    source = (
        FORKS_IN_CALLBACK
        + f"""
class Raises:
    def __bool__(self):
        raise ValueError("neither")

def in_the_child(error):
    assert error.type == "dropped", error
    track(client, range(100, 105))

track(client, range(10))
{REFUSED_CALLS[call]}
if os.getpid() != parent:
    track(client, range(105, 110))
    sys.exit(0)
track(client, range(10, 20))
reap([children.get(timeout=200)])
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [*range(20), *range(100, 110)])


# --- which process is this?

# As on systems without a page that the kernel wipes at a fork.
WITHOUT_A_PAGE = """
from whisperr._process import fork_token

fork_token._new = fork_token._ByPid
"""


def test_generations_where_no_page_can_be_wiped(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Parent, child and grandchild each deliver their own where only the process id tells them
    apart."""
    source = (
        WITHOUT_A_PAGE
        + """
client = new_client(flush_at=1_000, flush_interval=600)

def grandchild():
    assert client.stats()["accepted"] == 0, client.stats()
    track(client, range(20, 30))

def child():
    assert client.stats()["accepted"] == 0, client.stats()
    track(client, range(10, 20))
    reap([fork(grandchild)])

track(client, range(10))
reap([fork(child)])
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(30))


def test_a_grandchild_with_the_id_of_a_dead_ancestor(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Ids recycle: the hook has made the ancestor's engine stale, whatever the id says now. The
    child between the two calls nothing, so that the grandchild finds that engine."""
    source = (
        WITHOUT_A_PAGE
        + """
client = new_client(flush_at=1_000, flush_interval=600)
ancestor = os.getpid()

def grandchild():
    os.getpid = lambda: ancestor
    assert client.stats()["accepted"] == 0, client.stats()
    track(client, range(10, 20))

track(client, range(10))
reap([fork(lambda: reap([fork(grandchild)]))])
"""
    )
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(20))


def test_a_child_makes_nothing_for_clients_that_it_does_not_call(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Neither for those that its parent used: a fork costs no more with a hundred clients."""
    source = """
import gc
from whisperr._delivery.engine import Engine

def engines():
    return sum(type(found) is Engine for found in gc.get_objects())

clients = [new_client(flush_at=1_000, flush_interval=600) for _ in range(100)]
assert engines() == 0
track(clients[0], range(10))
assert engines() == 1

def child():
    assert engines() == 1  # the parent's
    track(clients[0], range(10, 20))
    track(clients[1], range(20, 30))
    assert engines() == 3

reap([fork(child)])
"""
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(30))
