"""The ingestion API on a laptop: a strict server on loopback that counts what arrives.

``Sandbox`` runs it as a child process; ``python -m whisperr.sandbox`` runs it in a terminal.
The server needs the extra ``whisperr[sandbox]``; importing this package does not.
"""

from __future__ import annotations

from whisperr.sandbox._process import Sandbox

__all__ = ["Sandbox"]
