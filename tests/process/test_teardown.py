"""After the last exit handler: the interpreter takes itself apart, and a client says no word more.

Finalizers run then in modules whose names are gone. What they track is delivered or not; nothing
reaches stderr, and nothing waits.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.apps import run_app
from support.programs import run_program
from whisperr.sandbox import Sandbox

# Some module that outlives its time keeps all the others alive, whose names then go one by one.
KEPT = "import sys, whisperr\nsys.kept = list(sys.modules.values())\n"

CALLS = """
    def __del__(self):
        self.client.track("u", "it_ended")
        self.client.identify("u", email="a@example.com")
        self.client.flush()
        self.client.stats()
        self.client.shutdown()
        self.client.track("u", "it_ended")
"""

HOLDERS = {
    "a module": "client = new_client()",
    "an earlier module": "import json\njson.client = new_client()\njson.client.track('u', 'e')",
    "sys": "sys.client = new_client()\nsys.client.track('u', 'e')",
    "a hook": "client = new_client()\nsys.excepthook = lambda *_: client.track('u', 'crashed')\n"
    "client.track('u', 'e')",
    "a hook that runs": "client = new_client()\n"
    "sys.excepthook = lambda *_: client.track('u', 'crashed')\nraise ValueError",
    "a closure": "def keep(client):\n    return lambda: client.track('u', 'e')\n"
    "sys.call = keep(new_client())\nsys.call()",
    "a class": "class Owner:\n    client = new_client()" + CALLS + "sys.owner = Owner()",
    "an object that tracks": "class Owner:\n    def __init__(self):\n"
    "        self.client, self.me = new_client(), self\n"
    "        self.client.track('u', 'e')" + CALLS + "sys.owner = Owner()",
    "an object of builtins": "import builtins\nclass Owner:\n    def __init__(self):\n"
    "        self.client, self.me = new_client(), self" + CALLS + "builtins.owner = Owner()",
    "a thread's own": "import threading\nown = threading.local()\nown.client = new_client()\n"
    "own.client.track('u', 'e')",
}


@pytest.mark.parametrize("kept", ["", KEPT], ids=["", "kept"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_no_word_at_the_end(
    server: Sandbox, key: str, tmp_path: Path, holder: str, kept: str
) -> None:
    """Whoever holds the client at the end, and whatever it still calls, with every warning on."""
    status = 1 if holder == "a hook that runs" else 0
    flags = ("-X", "dev", "-W", "error")
    done = run_app(server, key, tmp_path, kept + HOLDERS[holder], flags=flags, status=status)
    assert done.stderr == ""


def test_a_loss_that_nobody_can_hear_of(tmp_path: Path) -> None:
    """Where nothing listens, what a finalizer tracks is lost, and the process ends all the same."""
    source = (
        "import sys\nfrom whisperr import Whisperr\n"
        "new_client = lambda: Whisperr('wrk_x', base_url='http://127.0.0.1:9', max_retries=0)\n"
        + KEPT
        + HOLDERS["a class"]
    )
    done = run_program(source, tmp_path, flags=("-X", "dev", "-W", "error"))
    assert done.stderr == ""
