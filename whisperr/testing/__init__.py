"""For tests of applications: what they track is recorded in memory, and nothing is sent.

With pytest the fixtures ``whisperr_events`` and ``whisperr_sandbox`` are there once whisperr is
installed. With ``unittest`` and Django there is ``OutboxMixin``, everywhere else ``recording()``.
Nothing here needs pytest or Django.
"""

from whisperr.testing._outbox import OutboxMixin
from whisperr.testing._recording import Recording, recording
from whisperr.testing._records import Identified, Refused, Tracked
from whisperr.testing._sandbox import SandboxAccount

__all__ = [
    "Identified",
    "OutboxMixin",
    "Recording",
    "Refused",
    "SandboxAccount",
    "Tracked",
    "recording",
]
