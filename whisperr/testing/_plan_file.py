"""What the tests of a run track, as lines of JSON: for ``whisperr events``."""

from __future__ import annotations

import json
import os

from whisperr.testing._recording import Recording


def append(path: str, events: Recording) -> None:
    """Add what was recorded. Each test writes once, so that tests in parallel may share the file."""
    lines = [{"type": event.event_type, "properties": event.properties} for event in events]
    lines += [{"type": "identify", "properties": known.traits} for known in events.identities]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    if text:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, text)
        finally:
            os.close(file)
