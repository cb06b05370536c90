"""What the sandbox does where nobody says otherwise: for the command, the server and ``Sandbox``."""

from __future__ import annotations

KEEP = 1_000_000  # rows, and as many requests; the oldest are deleted beyond that
KEEP_ALIVE = 75.0  # seconds after which an idle connection is closed
READ_TIMEOUT = 60.0  # seconds for a request to come in
