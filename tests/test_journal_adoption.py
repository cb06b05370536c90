"""Whose journal it is: adopted from the dead once, never from the living, whoever forks or ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.apps import assert_arrived
from support.heirs import run_heirs
from whisperr.sandbox import Sandbox

# --- after a crash


@pytest.mark.parametrize("ending", ["client.flush()", ""], ids=["flush", "exit"])
def test_a_script_delivers_what_a_crashed_one_left(
    server: Sandbox, key: str, tmp_path: Path, ending: str
) -> None:
    """A script that starts after a crash delivers the crashed one's events beside its own, at its
    flush, and at its exit where it makes none; with the ids and the times that they had.
    """
    run_heirs(server, key, tmp_path, "undelivered(durable(), range(5)); die()", status=-9)
    assert server.requests(key) == []
    run_heirs(server, key, tmp_path, f"client = durable()\ntrack(client, [5])\n{ending}")
    assert_arrived(server, key, range(6))
    events = sorted(server.events(key), key=lambda event: event["properties"]["n"])
    *adopted, own = (event["context"]["$message_id"][:20] for event in events)
    assert len(set(adopted)) == 1 and own not in adopted
    times = [event["occurred_at"] for event in events]
    assert times == sorted(times)
    assert files_of(tmp_path) == []


def test_a_script_that_only_flushes_adopts(server: Sandbox, key: str, tmp_path: Path) -> None:
    """flush() alone is a first use: it looks for the dead, and its ledger says whose they were."""
    (stats,) = run_heirs(
        server,
        key,
        tmp_path,
        """
        dead(lambda: undelivered(durable(), range(7)))
        client = durable()
        assert client.flush()
        tell(**closed(client.stats()))
        """,
    )
    assert (stats["accepted"], stats["adopted"], stats["delivered"]) == (0, 7, 7)
    assert_arrived(server, key, range(7))
    assert files_of(tmp_path) == []


def files_of(folder: Path) -> list[str]:
    return [path.name for path in (folder / "journal").rglob("*") if path.is_file()]


# --- many at once

PROCESSES, CHAINS, EACH = 64, 1_000, 3


@pytest.mark.storm
@pytest.mark.timeout(240)
def test_64_processes_adopt_the_journals_of_1000(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What 1,000 killed processes left is adopted by 64 processes that begin at one moment: each
    event arrives once, each is adopted once, and no file is left.
    """
    told = run_heirs(
        server,
        key,
        tmp_path,
        f"""
        client = durable()
        for chain in range({CHAINS}):
            dead(undelivered, client, range({EACH} * chain, {EACH} * (chain + 1)))
        assert len(files()) == 2 * {CHAINS}, len(files())

        def adopt():
            os.close(go)
            os.read(ready, 1)  # until nobody holds the other end
            begun = time.monotonic()
            settled = client.flush(120)
            stats = closed(client.stats())
            tell(settled=settled, seconds=time.monotonic() - begun, **stats)

        ready, go = os.pipe()
        children = [fork(adopt) for _ in range({PROCESSES})]
        begun = time.monotonic()
        os.close(go)
        reap(children)
        tell(all=time.monotonic() - begun)
        """,
        timeout=200,
    )
    *adopters, total = told
    print(f"{total['all']:.1f} s, adopted by one at most {max(a['adopted'] for a in adopters)}")
    assert [a["settled"] for a in adopters] == [True] * PROCESSES
    assert sum(a["adopted"] for a in adopters) == CHAINS * EACH
    assert sum(a["delivered"] for a in adopters) == CHAINS * EACH
    assert_arrived(server, key, range(CHAINS * EACH))
    assert files_of(tmp_path) == []
