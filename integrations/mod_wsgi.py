"""Import this in an application that Apache's mod_wsgi runs: it delivers when the interpreter ends. ::

    import whisperr.integrations.mod_wsgi

mod_wsgi runs an application in an interpreter of its own inside the process, at whose end Python's
exit handlers do not run (in older versions), or run while the sender's thread stands still. But it
says when a process ends: at a stop, a restart, ``maximum-requests``. Outside mod_wsgi the import
does nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from whisperr import lifecycle

__all__ = ["EXIT_TIMEOUT", "at_shutdown"]

#: How long ``at_shutdown()`` may take, in seconds.
EXIT_TIMEOUT = 3.0  # of the five that mod_wsgi gives a process (``shutdown-timeout``)


def at_shutdown(*event: Any, **details: Any) -> None:
    """When a process ends: deliver, for 3 seconds at most. The import installs it.

    What is left then is reported as lost, by count, or stays in the journal.
    """
    if not lifecycle.flush_all(EXIT_TIMEOUT):
        lifecycle.shutdown_all(0)


def _install(mod_wsgi: Any) -> None:
    subscribe = getattr(mod_wsgi, "subscribe_shutdown", None)
    if subscribe is not None:  # outside Apache the name belongs to what installs it
        subscribe(at_shutdown)


if "mod_wsgi" in sys.modules:
    _install(sys.modules["mod_wsgi"])
