"""``whisperr events``: what was seen becomes a plan, and a later run is held against it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.clients import open_client
from support.deadlines import DEADLINE
from support.sandboxes import PatientSandbox

SECRET = "ada@example.org"


def command(folder: Path, *arguments: str, status: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "whisperr", "events", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == status, done
    assert SECRET not in done.stdout + done.stderr and "Traceback" not in done.stderr
    return done.stdout + done.stderr


def write(path: Path, *events: tuple[str, dict[str, Any]]) -> None:
    lines = [json.dumps({"type": name, "properties": properties}) for name, properties in events]
    path.write_text("\n".join(lines) + "\n")


FIRST = (
    ("order_paid", {"amount": 12.5, "note": SECRET, "items": [{"sku": "a"}, {"sku": "b", "n": 1}]}),
    ("order_paid", {"amount": 12, "items": []}),
    ("page_viewed", {"path": None}),
    ("identify", {"plan": "pro"}),
)


def test_what_was_seen_is_listed_and_planned(tmp_path: Path) -> None:
    """Types at any depth; an integer among numbers is one; what each event had is required."""
    write(tmp_path / "seen", *FIRST)
    said = command(tmp_path, "seen", "--write", "plan", status=0)
    assert [line.split() for line in said.splitlines()[3:9]] == [
        ["amount", "number,", "always"],
        ["items", "array,", "always"],
        ["items[].n", "integer,", "1", "times"],
        ["items[].sku", "string,", "always"],
        ["note", "string,", "1", "times"],
        ["page_viewed,", "1", "times"],
    ]
    plan = (tmp_path / "plan").read_text()
    assert SECRET not in plan
    paid = json.loads(plan)["$defs"]["order_paid"]
    assert paid["required"] == ["amount", "items"]
    assert paid["properties"]["amount"] == {"type": "number"}
    assert "4 events are as planned" in command(tmp_path, "seen", "--check", "plan", status=0)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (("order_payed", {}), "order_payed: is not in the plan"),
        (("order_paid", {"amount": SECRET, "items": []}), "order_paid: amount: must be number"),
        (("order_paid", {"items": []}), "order_paid: properties: amount is missing"),
        (
            ("order_paid", {"amount": 1, "items": [{"sku": "a", "colour": SECRET}]}),
            "order_paid: items.0: colour is not in the plan",
        ),
        (("identify", {"plan": 7}), "identify: plan: must be string"),
    ],
)
def test_what_is_not_planned_is_named(
    tmp_path: Path, event: tuple[str, dict[str, Any]], sentence: str
) -> None:
    """The type, the place, the rule, and in how many events; never the value."""
    write(tmp_path / "seen", *FIRST)
    command(tmp_path, "seen", "--write", "plan", status=0)
    write(tmp_path / "later", *FIRST, event, event)
    said = command(tmp_path, "later", "--check", "plan", status=1)
    assert said == f"{sentence} (2 events)\n"


def test_a_sandbox_is_a_source(tmp_path: Path) -> None:
    """What it has taken, identities too, and not what failed."""
    with PatientSandbox() as box:
        with open_client(box.url, "wrk_plan", max_retries=1) as client:
            box.inject("wrk_plan", {"do": "status", "status": 503, "times": 1})
            client.track("u", "order_paid", {"amount": 1})
            client.identify("u", traits={"plan": "pro"})
            assert client.flush()
        said = command(tmp_path, box.url, status=0)
    assert said.splitlines() == [
        "identify, 1 times",
        "  plan  string, always",
        "order_paid, 1 times",
        "  amount  integer, always",
    ]


def test_tests_are_a_source(tmp_path: Path) -> None:
    """pytest writes what its tests track; the file grows from run to run."""
    (tmp_path / "test_it.py").write_text(
        "from whisperr import Whisperr\n"
        "def test_it(whisperr_events):\n"
        "    w = Whisperr('wrk_k')\n"
        "    w.track('u', 'order_paid', {'amount': 1})\n"
        "    w.identify('u', traits={'plan': 'pro'})\n"
        "def test_other(): pass\n"
    )
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--whisperr-events=seen", "test_it.py"],
            cwd=tmp_path,
            check=True,
            timeout=DEADLINE,
        )
    assert "order_paid, 2 times" in command(tmp_path, "seen", status=0)


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    """A sentence, and the status 2."""
    write(tmp_path / "seen", *FIRST)
    (tmp_path / "empty").write_text("")
    (tmp_path / "no_json").write_text("{")
    (tmp_path / "no_plan").write_text('{"type": 7}')
    for arguments in (
        ["missing"],
        ["empty"],
        ["no_json"],
        ["http://127.0.0.1:9"],
        ["seen", "--check", "missing"],
        ["seen", "--check", "no_plan"],
        ["seen", "--check", "no_json"],
        ["seen", "--write", "no/such/folder"],
    ):
        assert command(tmp_path, *arguments, status=2).startswith("whisperr events: ")
