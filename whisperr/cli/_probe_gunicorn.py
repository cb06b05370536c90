"""Run by the doctor in a fresh interpreter: reads gunicorn's configuration as gunicorn does.

Arguments: the file to answer in, then gunicorn's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_NAMES = (
    "preload_app",
    "timeout",
    "graceful_timeout",
    "control_socket_disable",
    "max_requests",
)
_HOOKS = ("post_fork", "post_worker_init", "worker_exit", "worker_abort")


def main() -> None:
    from gunicorn.app.base import Application

    class Settings(Application):
        def init(self, parser: Any, opts: Any, args: Any) -> None:
            return None

        def load(self) -> Any:
            return None

    answer = Path(sys.argv[1])
    sys.argv[:] = ["gunicorn", *sys.argv[2:]]
    settings = Settings().cfg.settings
    found = {name: settings[name].get() for name in _NAMES if name in settings}
    found["worker_class"] = str(settings["worker_class"].get())
    # gunicorn's own default of a hook is of gunicorn's; whatever else is there is the user's.
    found["hooks"] = {name: getattr(settings[name].get(), "__module__", "") for name in _HOOKS}
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
