"""What children of multiprocessing call: a spawned one imports it, and can't import a module of tests."""

from __future__ import annotations

import os
from typing import Any

from whisperr import Whisperr


def hook_of_a_child(call: dict[str, Any]) -> dict[str, Any]:
    call["properties"]["pid"] = os.getpid()
    return call


def track_in_child(client: Whisperr, number: int) -> None:
    client.track("u", "number_seen", {"n": number})
    assert client.shutdown(60)
