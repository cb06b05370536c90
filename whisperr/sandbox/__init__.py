"""The ingestion API on a laptop: a strict server on loopback that counts what arrives.

``Sandbox`` runs it as a child process; ``python -m whisperr.sandbox`` runs it in a terminal.
The server needs the extra ``whisperr[sandbox]``; importing this package does not.

``server`` takes requests and counts, ``page`` shows what it has, ``process`` runs it as a child,
``command`` is its command line. Only ``Sandbox`` is public.
"""

from __future__ import annotations

from whisperr.sandbox.process.sandbox import Sandbox

__all__ = ["Sandbox"]
