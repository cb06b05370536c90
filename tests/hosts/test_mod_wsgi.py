"""mod_wsgi: what the import does with mod_wsgi's event. The program in hosts/ runs it under Apache."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from support.apps import assert_arrived, run_app
from whisperr.sandbox import Sandbox

# What Apache puts into each of its interpreters.
APACHE = """
    import types
    told = []
    sys.modules["mod_wsgi"] = types.SimpleNamespace(subscribe_shutdown=told.append)
    import whisperr.integrations.mod_wsgi
    (at_shutdown,) = told
"""


def test_it_delivers_at_the_event(server: Sandbox, key: str, tmp_path: Path) -> None:
    """No exit handler runs after it, and embedded mode tells it twice."""
    source = """
        client = new_client(flush_at=1000, flush_interval=1000)
        track(client, range(10))
        for _ in range(2):
            at_shutdown("process_stopping", shutdown_reason="shutdown_signal")
        os._exit(0)
    """
    run_app(server, key, tmp_path, dedent(APACHE) + dedent(source))
    assert_arrived(server, key, range(10))


def test_a_loss_is_reported(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Nothing runs after the event: what a server that hangs has not taken is said to be lost."""
    server.inject(key, {"do": "hang", "times": -1})
    source = """
        whisperr.integrations.mod_wsgi.EXIT_TIMEOUT = 0.3
        client = new_client(flush_at=1000, flush_interval=1000)
        track(client, range(10))
        at_shutdown("process_stopping")
        os._exit(0)
    """
    done = run_app(server, key, tmp_path, dedent(APACHE) + dedent(source))
    assert done.stderr.count("lost 10 records") == 1, done.stderr


def test_outside_apache_it_does_nothing(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Neither without a module of that name, nor with the package that installs it."""
    source = """
        import types
        if {installed}:
            sys.modules["mod_wsgi"] = types.ModuleType("mod_wsgi")
        import whisperr.integrations.mod_wsgi
    """
    for installed in (False, True):
        run_app(server, key, tmp_path, source.format(installed=installed))
