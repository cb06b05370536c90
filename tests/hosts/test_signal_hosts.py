"""Hosts that leave SIGTERM to Python, which then ends them without any exit handler."""

from __future__ import annotations

import signal
from pathlib import Path
from textwrap import dedent

import pytest

from support.servers import SOCKET, Setting, assert_delivered
from whisperr.sandbox import Sandbox

REQUESTS = 40
SILENT = {"flush_at": 1_000_000, "flush_interval": 3600}
OUR_LINE = ("our_line",)  # a module of this name, which an application imports

WAITRESS = f"""
    import waitress
    from served import application
    waitress.serve(application, unix_socket="{SOCKET}")
"""
CHEROOT = f"""
    from cheroot import wsgi
    from served import application
    wsgi.Server("{SOCKET}", application).start()
"""
TORNADO = f"""
    import asyncio
    from tornado import httpserver, netutil, process, wsgi

    listening = netutil.bind_unix_socket("{SOCKET}")
    process.fork_processes(2)

    async def main():
        from served import application
        httpserver.HTTPServer(wsgi.WSGIContainer(application)).add_socket(listening)
        await asyncio.Event().wait()

    asyncio.run(main())
"""
GEVENT = f"""
    from gevent import monkey
    monkey.patch_all()
    import socket
    from gevent import pywsgi
    from served import application
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("{SOCKET}")
    listening.listen(64)
    pywsgi.WSGIServer(listening, application, log=None).serve_forever()
"""
HOSTS = {
    "waitress": (WAITRESS, False),
    "cheroot": (CHEROOT, False),
    "tornado": (TORNADO, True),  # its first process leaves the others behind, with and without us
    "gevent": (GEVENT, False),
}


@pytest.fixture
def setting(server: Sandbox, key: str, tmp_path: Path) -> Setting:
    (tmp_path / "our_line.py").write_text(
        "from whisperr import lifecycle\nlifecycle.deliver_on_signals()\n"
    )
    return Setting(tmp_path, server, key)


@pytest.mark.parametrize("host", HOSTS)
def test_all_arrives_at_sigterm(
    setting: Setting, server: Sandbox, key: str, tmp_path: Path, host: str
) -> None:
    """With our one line in the application, nothing that a server's requests tracked is lost."""
    source, to_all = HOSTS[host]
    (tmp_path / "host.py").write_text(dedent(source))
    with setting.program(["host.py"], imports=OUR_LINE, options=SILENT) as served:
        served.send(REQUESTS)
        served.stop(signal.SIGTERM, to_all=to_all)
        tracked = served.numbers()
    assert len(tracked) == REQUESTS
    assert_delivered(server, key, tracked)


SCHEDULER = """
    from apscheduler.schedulers.blocking import BlockingScheduler
    from served import note

    scheduler = BlockingScheduler(timezone="UTC")
    for number in range(4):
        scheduler.add_job(note, "interval", seconds=0.1, args=[f"job {number}"])
    scheduler.start()
"""


def test_all_arrives_from_a_scheduler(
    setting: Setting, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """APScheduler, whose jobs run in threads and go on while the handler delivers."""
    (tmp_path / "host.py").write_text(dedent(SCHEDULER))
    with setting.program(["host.py"], imports=OUR_LINE, options=SILENT) as served:
        served.wait_for_lines("accounts", REQUESTS)
        served.stop(signal.SIGTERM)
        tracked = served.numbers()
    assert_delivered(server, key, tracked, or_more=True)  # a job ends between track() and its note
