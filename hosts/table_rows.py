"""The hosts: how each is started, made to work and stopped, which line is ours, and why it loses what it loses.

In a command and in no file: ``{python}``, ``{bin}`` (its folder), ``{port}``, ``{folder}``, ``{redis}``, ``{queue}``.
"""

from __future__ import annotations

import signal
from textwrap import dedent
from typing import Mapping, NamedTuple, Sequence, Tuple, Union

PLAIN, LINE, JOURNAL, KILLED = "plain", "line", "journal", "killed"

Stop = Union[
    signal.Signals, Tuple[signal.Signals, ...], None
]  # several: each when the one before is heard
TERM, INT, HUP, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1


class Row(NamedTuple):
    """One host, in one way to run it and to stop it."""

    name: str
    package: str  # whose version is shown; "" is Python
    command: Sequence[str]
    files: Mapping[str, str] = {}
    stop: Stop = TERM  # None: it ends by itself
    stop_all: bool = False  # to each of its processes, as systemd does
    web: bool = False  # it tracks one event for each request
    events: int = 0  # or so many, before it is stopped
    line: str = (
        ""  # Python that runs where the client is made; one that begins "# flush" is in the task
    )
    shown: str = ""  # what the page says instead of the line
    line_files: Mapping[str, str] = {}
    line_command: Sequence[str] = ()
    why: str = ""
    orphans: bool = False  # its first process leaves others behind
    light: bool = False  # runs in CI
    varies: bool = False  # a race in the host: the figure of one run says little


DELIVER = "lifecycle.deliver_on_signals()"
TWISTED = (
    "from twisted.internet import reactor\n"
    'reactor.addSystemEventTrigger("after", "shutdown", lifecycle.flush_all, 5)\n'
)
FLUSH = "# flush"
FLUSH_SHOWN = "`client.flush()` in the task"
DEFAULT_SIGTERM = "Python's default SIGTERM"
HOOKS = "from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_abort, worker_exit\n"
HOOKS_SHOWN = "the hooks in `gunicorn.conf.py`"
FLUSHING = (
    "from application import asgi\n"
    "from whisperr.integrations.asgi import FlushOnShutdown\n"
    "app = FlushOnShutdown(asgi)\n"
)
PORT = 'import os\nPORT = int(os.environ["HOSTS_PORT"])\n'


def script(text: str) -> dict[str, str]:
    return {"program.py": dedent(text)}


RUN = ("{python}", "program.py")


def gunicorn(name: str, *options: str, app: str = "application:wsgi", **more: object) -> Row:
    command = ("{python}", "-m", "gunicorn", app, "-b", "127.0.0.1:{port}", "-w", "2", *options)
    return Row(
        f"gunicorn, {name}",
        "gunicorn",
        command,
        web=True,
        line_files={"gunicorn.conf.py": HOOKS},
        shown=HOOKS_SHOWN,
        **more,  # type: ignore[arg-type]
    )


def wsgi_script(name: str, package: str, text: str, **more: object) -> Row:
    given = {"line": DELIVER, "why": DEFAULT_SIGTERM, "light": True, **more}
    return Row(name, package, RUN, {"program.py": PORT + dedent(text)}, web=True, **given)  # type: ignore[arg-type]


def wsgi_module(name: str, package: str, *options: str) -> Row:
    command = ("{python}", "-m", package, *options, "application:wsgi")
    return Row(name, package, command, web=True, line=DELIVER, why=DEFAULT_SIGTERM, light=True)


def asgi_command(name: str, package: str, *command: str, **more: object) -> Row:
    words = [part.replace("APP", "application:asgi") for part in command]
    with_line = [part.replace("APP", "flushing:app") for part in command]
    return Row(
        name,
        package,
        words,
        web=True,
        line_files={"flushing.py": FLUSHING},
        line_command=with_line,
        shown="`FlushOnShutdown(app)`",
        **more,  # type: ignore[arg-type]
    )


def uvicorn(name: str, *options: str, **more: object) -> Row:
    command = ("{python}", "-m", "uvicorn", "APP", "--port", "{port}", *options)
    return asgi_command(name, "uvicorn", *command, **more)


SERVERS = (
    gunicorn("sync", light=True),
    gunicorn("sync, preload", "--preload"),
    gunicorn("gthread", "--threads", "4"),
    gunicorn("gevent", "-k", "gevent"),
    gunicorn(
        "UvicornWorker",
        "-k",
        "uvicorn_worker.UvicornWorker",
        app="application:asgi",
        why="the worker ends by the signal, raised again",
        light=True,
    ),
    Row(
        "uWSGI, master",
        "pyuwsgi",
        (
            "{bin}/uwsgi",
            "--home",
            "{bin}/..",
            "--http-socket",
            "127.0.0.1:{port}",
            "--master",
            "--processes",
            "2",
            "--module",
            "application:wsgi",
            "--disable-logging",
            "--hook-master-start",
            "unix_signal:15 gracefully_kill_them_all",
        ),
        web=True,
        line="import whisperr.integrations.uwsgi",
        light=True,
    ),
    wsgi_module("Waitress", "waitress", "--listen=127.0.0.1:{port}"),
    wsgi_module("cheroot", "cheroot", "--bind", "127.0.0.1:{port}"),
    wsgi_script(
        "CherryPy",
        "cherrypy",
        """
        import cherrypy
        from application import wsgi
        cherrypy.config.update({"server.socket_port": PORT, "engine.autoreload.on": False})
        cherrypy.engine.signals.subscribe()
        cherrypy.engine.start()
        # Now: it answers before it has started, and a SIGTERM then ends it by os._exit().
        cherrypy.tree.graft(wsgi, "/")
        cherrypy.engine.block()
        """,
        line="",
        why="",
    ),
    wsgi_script(
        "gevent pywsgi",
        "gevent",
        """
        from gevent import monkey, pywsgi
        monkey.patch_all()
        from application import wsgi
        pywsgi.WSGIServer(("127.0.0.1", PORT), wsgi, log=None).serve_forever()
        """,
    ),
    wsgi_script(
        "wsgiref",
        "",
        """
        from wsgiref.simple_server import make_server
        from application import wsgi
        make_server("127.0.0.1", PORT, wsgi).serve_forever()
        """,
    ),
    wsgi_script(
        "Werkzeug (flask run)",
        "werkzeug",
        """
        from werkzeug.serving import run_simple
        from application import wsgi
        run_simple("127.0.0.1", PORT, wsgi)
        """,
    ),
    wsgi_script(
        "Django runserver --noreload",
        "django",
        """
        import sys
        import types
        from django.conf import settings
        from django.core.management import execute_from_command_line
        from django.http import HttpResponse
        from django.urls import path
        from application import note

        def view(request):
            note()
            return HttpResponse("ok")

        urls = types.ModuleType("urls")
        urls.urlpatterns = [path("", view)]
        sys.modules["urls"] = urls
        settings.configure(ROOT_URLCONF="urls", DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["*"])
        execute_from_command_line(["manage", "runserver", "--noreload", f"127.0.0.1:{PORT}"])
        """,
    ),
    wsgi_script(
        "Tornado, one process",
        "tornado",
        """
        import asyncio
        from tornado import httpserver, wsgi as adapter
        from application import wsgi

        async def main():
            httpserver.HTTPServer(adapter.WSGIContainer(wsgi)).listen(PORT, "127.0.0.1")
            await asyncio.Event().wait()

        asyncio.run(main())
        """,
    ),
    wsgi_script(
        "Tornado fork_processes, signal to the group",
        "tornado",
        """
        import asyncio
        from tornado import httpserver, netutil, process, wsgi as adapter
        from application import wsgi
        listening = netutil.bind_sockets(PORT, "127.0.0.1")
        process.fork_processes(2)

        async def main():
            httpserver.HTTPServer(adapter.WSGIContainer(wsgi)).add_sockets(listening)
            await asyncio.Event().wait()

        asyncio.run(main())
        """,
        stop_all=True,
    ),
    wsgi_script(
        "aiohttp",
        "aiohttp",
        """
        from aiohttp import web
        from application import note

        async def hello(request):
            note()
            return web.Response(text="ok")

        app = web.Application()
        app.add_routes([web.get("/", hello)])
        web.run_app(app, host="127.0.0.1", port=PORT)
        """,
        line="",
        why="",
    ),
    Row(
        "Twisted (twist web)",
        "twisted",
        (
            "{bin}/twist",
            "web",
            "--listen",
            "tcp:{port}:interface=127.0.0.1",
            "--wsgi",
            "application.wsgi",
        ),
        web=True,
        line=TWISTED,
        shown='`reactor.addSystemEventTrigger("after", "shutdown", lifecycle.flush_all, 5)`',
        why="the signal is raised again, after the shutdown",
        light=True,
    ),
    Row(
        "functions-framework",
        "functions-framework",
        ("{bin}/functions-framework", "--target", "hello", "--port", "{port}"),
        {
            "main.py": "from application import note\ndef hello(request):\n    note()\n    return 'ok'\n"
        },
        web=True,
    ),
    Row(
        "Granian, WSGI",
        "granian",
        ("{bin}/granian", "--interface", "wsgi", "--port", "{port}", "application:wsgi"),
        web=True,
    ),
    uvicorn("uvicorn", why="the signal is raised again, after the shutdown", light=True),
    uvicorn("uvicorn --workers 2", "--workers", "2", why="likewise, in each worker"),
    asgi_command(
        "Hypercorn", "hypercorn", "{python}", "-m", "hypercorn", "APP", "-b", "127.0.0.1:{port}"
    ),
    asgi_command("Daphne", "daphne", "{bin}/daphne", "-b", "127.0.0.1", "-p", "{port}", "APP"),
    asgi_command(
        "Granian, ASGI",
        "granian",
        "{bin}/granian",
        "--interface",
        "asgi",
        "--port",
        "{port}",
        "APP",
    ),
)

APACHE = """
import os
import subprocess
import sys
from pathlib import Path

folder, port = Path.cwd(), os.environ["HOSTS_PORT"]
express = os.path.join(os.path.dirname(sys.executable), "mod_wsgi-express")
loading = subprocess.check_output([express, "module-config"], text=True)
daemon = "WSGIDaemonProcess app threads=2 OPTIONS\\nWSGIProcessGroup app"
modules = "/usr/lib/apache2/modules"
(folder / "app.wsgi").write_text("from application import wsgi as application\\n")
(folder / "httpd.conf").write_text(f'''
ServerRoot {folder}
ServerName localhost
PidFile {folder}/httpd.pid
ErrorLog {folder}/said
DefaultRuntimeDir {folder}
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
{loading}
StartServers 1
MinSpareThreads 1
ThreadsPerChild 2
WSGISocketPrefix {folder}/wsgi
WSGIPythonPath {folder}
WSGIScriptAlias / {folder}/app.wsgi
{daemon if "MODE" == "daemon" else ""}
<Directory {folder}>
Require all granted
</Directory>
''')
apache = ["/usr/sbin/apache2", "-f", str(folder / "httpd.conf"), "-DFOREGROUND"]
if os.getuid() == 0:  # Apache serves no page as root; and another user may not read this Python
    apache = ["unshare", "--user", "--map-user=33", "--map-group=33", *apache]
os.execvp(apache[0], apache)
"""


def mod_wsgi(name: str, mode: str, options: str = "", **more: object) -> Row:
    text = APACHE.replace("MODE", mode).replace("OPTIONS", options)
    if mode == "daemon":
        text = text.replace("WSGIPythonPath {folder}\n", "").replace(
            "threads=2", "threads=2 python-path={folder}"
        )
        text = text.replace('daemon = "', 'daemon = f"')
    return Row(
        f"mod_wsgi, {name}",
        "mod_wsgi",
        RUN,
        {"program.py": text},
        web=True,
        line="import whisperr.integrations.mod_wsgi",
        why="in its sub-interpreter the sender stands still while exit handlers run",
        **more,  # type: ignore[arg-type]
    )


MOD_WSGI = (
    mod_wsgi("daemon, stop", "daemon", light=True),
    mod_wsgi("daemon, graceful", "daemon", stop=(USR1, TERM)),
    mod_wsgi("daemon, HUP", "daemon", stop=(HUP, TERM)),
    mod_wsgi("daemon, maximum-requests", "daemon", "maximum-requests=3"),
    mod_wsgi("embedded, stop", "embedded", light=True),
    mod_wsgi("embedded, graceful", "embedded", stop=(USR1, TERM)),
)


def worker(name: str, package: str, text: str, **more: object) -> Row:
    return Row(name, package, RUN, script(text), **{"events": 8, **more})  # type: ignore[arg-type]


CELERY = """
    import os, sys
    from celery import Celery
    app = Celery("program", broker=os.environ["HOSTS_REDIS"])
    app.conf.broker_transport_options = {"global_keyprefix": os.environ["HOSTS_KEY"]}
    app.conf.task_ignore_result = True

    @app.task(name="work")
    def work():
        application.note()

    import application
    if __name__ == "__main__":
        for _ in range(8):
            app.send_task("work")
        os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", "program", "worker",
                                  "-l", "WARNING", "-c", "2", "-P", "POOL"])
"""
RQ = """
    import os, sys
    import redis, rq
    queue = rq.Queue(os.environ["HOSTS_KEY"], connection=redis.from_url(os.environ["HOSTS_REDIS"]))
    for _ in range(4):
        queue.enqueue("application.many", 2)
    command, options = sys.argv[1], sys.argv[2:]
    os.execv(sys.executable, [sys.executable, "-m", "rq.cli", command, "--burst",
                              "-u", os.environ["HOSTS_REDIS"], *options, queue.name])
"""
RQ_WHY = "a work horse for each job, ended by `os._exit`"


def rq(name: str, command: str, kind: str, *options: str, ours: bool = True, **more: object) -> Row:
    begin = (*RUN, command, *options, "-w")
    line = f"whisperr.integrations.rq.{kind}"
    return Row(
        f"rq {name}",
        "rq",
        (*begin, f"rq.worker.{kind}"),
        script(RQ),
        stop=None,
        events=8,
        line_command=(*begin, line) if ours else (),
        shown=f"`-w {line}`" if ours else "",
        why=RQ_WHY if ours else "",
        **more,  # type: ignore[arg-type]
    )


JOBS = (
    worker(
        "Celery, prefork",
        "celery",
        CELERY.replace("POOL", "prefork"),
        line="import whisperr.integrations.celery",
        why="a pool's child ends by `os._exit`, after billiard's own hook, which a second signal cuts short",
        light=True,
    ),
    worker("Celery, solo", "celery", CELERY.replace("POOL", "solo")),
    worker("Celery, threads", "celery", CELERY.replace("POOL", "threads")),
    rq("Worker", "worker", "Worker", light=True),
    rq("SpawnWorker", "worker", "SpawnWorker"),
    rq("worker-pool", "worker-pool", "Worker", "-n", "2"),
    rq("SimpleWorker", "worker", "SimpleWorker", ours=False, light=True),
    worker(
        "Dramatiq",
        "dramatiq",
        """
        import os, sys
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker
        broker = RedisBroker(url=os.environ["HOSTS_REDIS"], namespace=os.environ["HOSTS_KEY"])
        dramatiq.set_broker(broker)
        import application
        work = dramatiq.actor(application.note, actor_name="work")
        if __name__ == "__main__":
            for _ in range(8):
                work.send(1)
            os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "program", "-p", "2", "-t", "2"])
        """,
    ),
    *(
        worker(
            f"Huey, {kind}",
            "huey",
            f"""
            import os, sys
            from huey import SqliteHuey
            huey = SqliteHuey(filename="huey.db")
            import application

            @huey.task()
            def work():
                application.note()

            if __name__ == "__main__":
                import program
                for _ in range(8):
                    program.huey.enqueue(program.work.s())
                consumer = os.path.join(os.path.dirname(sys.executable), "huey_consumer")
                os.execv(consumer, [consumer, "program.huey", "-k", "{kind}", "-w", "2"])
            """,
            stop=stop,
        )
        for kind, stop in (("thread", INT), ("process", INT))
    ),
    worker(
        "taskiq",
        "taskiq",
        """
        import asyncio, os, sys
        from taskiq_redis import ListQueueBroker
        broker = ListQueueBroker(os.environ["HOSTS_REDIS"], queue_name=os.environ["HOSTS_KEY"])
        import application

        @broker.task(task_name="work")
        async def work():
            application.note()

        async def main():
            await broker.startup()
            for _ in range(8):
                await work.kiq()
            await broker.shutdown()

        if __name__ == "__main__":
            asyncio.run(main())
            program = os.path.join(os.path.dirname(sys.executable), "taskiq")
            os.execv(program, [program, "worker", "program:broker", "-w", "2"])
        """,
    ),
    worker(
        "APScheduler, threads",
        "apscheduler",
        """
        from apscheduler.schedulers.blocking import BlockingScheduler
        from application import note
        scheduler = BlockingScheduler(timezone="UTC")
        scheduler.add_job(note, "interval", seconds=0.1)
        scheduler.start()
        """,
        line=DELIVER,
        why=DEFAULT_SIGTERM,
        light=True,
    ),
)


def ends(name: str, package: str, text: str, **more: object) -> Row:
    """A program that ends by itself; its main part is guarded, as spawned processes want it."""
    head = "from application import many, note, wait\nimport os, sys\n\n"
    body = "".join(f"    {line}\n" for line in dedent(text).strip().splitlines())
    program = {"program.py": f"{head}if __name__ == '__main__':\n{body}"}
    return Row(name, package, RUN, program, **{"stop": None, **more})  # type: ignore[arg-type]


def processes(module: str, method: str) -> str:
    context = f"get_context({method!r})" if method else ""
    return f"""
        import {module} as library
        context = library.{context or "context._default_context"}
        made = [context.Process(target=many) for _ in range(2)]
        for each in made: each.start()
        for each in made: each.join()
    """


def ipykernel(name: str, now: bool, **more: object) -> Row:
    text = f"""
        from jupyter_client import KernelManager
        manager = KernelManager(); manager.start_kernel()
        client = manager.client(); client.start_channels(); client.wait_for_ready(60)
        client.execute_interactive("import application; application.many()")
        client.stop_channels(); manager.shutdown_kernel(now={now})
    """
    return ends(name, "ipykernel", text, **more)


OWN_EXIT = "its processes have an exit function of their own"
PROGRAMS = (
    ends("a script that ends", "", "many()", light=True),
    ends("a script, Ctrl-C", "", "many(); wait()", events=5, stop=INT, light=True),
    ends(
        "a script, SIGTERM",
        "",
        "many(); wait()",
        events=5,
        stop=TERM,
        line=DELIVER,
        why=DEFAULT_SIGTERM,
        light=True,
    ),
    ends(
        "a script, SIGHUP",
        "",
        "many(); wait()",
        events=5,
        stop=HUP,
        line=DELIVER,
        why="Python's default SIGHUP",
        light=True,
    ),
    ends(
        "`os._exit`",
        "",
        "many(); os._exit(0)",
        line=FLUSH,
        shown="`client.flush()` before",
        why="no Python runs after it",
        light=True,
    ),
    ends(
        "`os.fork`, `sys.exit`",
        "",
        """
        if os.fork() == 0:
            many(); sys.exit()
        os.wait()
    """,
        light=True,
    ),
    ends(
        "`os.fork`, `os._exit`",
        "",
        """
        if os.fork() == 0:
            many(); os._exit(0)
        os.wait()
    """,
        line=FLUSH,
        shown="`client.flush()` before",
        why="no Python runs after it",
        light=True,
    ),
    ends("multiprocessing, fork", "", processes("multiprocessing", "fork"), light=True),
    ends("multiprocessing, spawn", "", processes("multiprocessing", "spawn"), light=True),
    ends("multiprocessing, forkserver", "", processes("multiprocessing", "forkserver")),
    ends(
        "multiprocessing `Pool`, closed and joined",
        "",
        """
        import multiprocessing
        pool = multiprocessing.get_context("fork").Pool(2)
        pool.map(note, range(8)); pool.close(); pool.join()
    """,
        light=True,
    ),
    ends(
        "multiprocessing, `with Pool`",
        "",
        """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(note, range(8))
    """,
        line=DELIVER,
        why="its end is `terminate()`",
        varies=True,
    ),
    ends(
        "multiprocessing, `Process.terminate()`",
        "",
        """
        import multiprocessing, time, application
        child = multiprocessing.get_context("fork").Process(target=lambda: (many(), wait()))
        child.start()
        while not os.path.exists(application._accounts) or len(open(application._accounts).readlines()) < 5:
            time.sleep(0.05)
        child.terminate(); child.join()
    """,
        line=DELIVER,
        why=DEFAULT_SIGTERM,
        light=True,
    ),
    ends(
        "ProcessPoolExecutor",
        "",
        """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(note, range(8)))
    """,
        light=True,
    ),
    ends(
        "multiprocess",
        "multiprocess",
        processes("multiprocess", "fork"),
        line=FLUSH,
        shown=FLUSH_SHOWN,
        why=OWN_EXIT,
    ),
    ends(
        "pathos",
        "pathos",
        """
        from pathos.multiprocessing import ProcessingPool
        pool = ProcessingPool(2)
        pool.map(note, range(8)); pool.close(); pool.join()
    """,
        line=FLUSH,
        shown=FLUSH_SHOWN,
        why=OWN_EXIT,
    ),
    ends(
        "billiard `Process`",
        "billiard",
        processes("billiard", ""),
        line=FLUSH,
        shown=FLUSH_SHOWN,
        why=OWN_EXIT,
    ),
    ends(
        "billiard `Pool`",
        "billiard",
        """
        import billiard
        pool = billiard.Pool(2)
        pool.map(note, range(8)); pool.close(); pool.join()
    """,
        line=FLUSH,
        shown=FLUSH_SHOWN,
        why="its children end by `os._exit`",
    ),
    ends(
        "joblib, loky",
        "joblib",
        """
        from joblib import Parallel, delayed
        Parallel(2)(delayed(note)() for _ in range(8))
    """,
    ),
    ends(
        "joblib, multiprocessing",
        "joblib",
        """
        from joblib import Parallel, delayed
        Parallel(2, backend="multiprocessing")(delayed(note)() for _ in range(8))
    """,
        line=FLUSH,
        shown=FLUSH_SHOWN,
        why="its pool is terminated",
        varies=True,
    ),
    ends(
        "loky",
        "loky",
        """
        from loky import get_reusable_executor
        executor = get_reusable_executor(2)
        list(executor.map(note, range(8)))
        executor.shutdown()
    """,
    ),
    ends(
        "dask, LocalCluster",
        "distributed",
        """
        from dask.distributed import Client, LocalCluster
        with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster) as dask:
            dask.gather(dask.map(note, range(8), pure=False))
    """,
    ),
    Row(
        "pytest-xdist",
        "pytest-xdist",
        (
            "env",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",  # each would cost each worker its import
            "{python}",
            *(
                "-m",
                "pytest",
                "-q",
                "-n",
                "2",
                "-p",
                "xdist",
                "-p",
                "no:cacheprovider",
                "test_it.py",
            ),
        ),
        {
            "test_it.py": "import pytest, application\n@pytest.mark.parametrize('n', range(8))\ndef test_it(n):\n    application.note()\n"
        },
        stop=None,
    ),
    ipykernel("ipykernel, shutdown", now=False),
    ipykernel(
        "ipykernel, shutdown `now=True`", now=True, line=FLUSH, shown=FLUSH_SHOWN, why="killed"
    ),
    ends(
        "python-daemon",
        "python-daemon",
        """
        import daemon
        with daemon.DaemonContext(working_directory="."):
            many(); wait()
    """,
        events=5,
        stop=TERM,
        stop_all=True,
    ),
)

# Lambda's side: it stops the process from the moment at which it asks for the next event.
LAMBDA = """
import os, queue, signal, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asks, answers, events = queue.Queue(), queue.Queue(), queue.Queue()

class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asks.put(1)
        events.get()
        self.say(200, {"Lambda-Runtime-Aws-Request-Id": "1", "Lambda-Runtime-Deadline-Ms": "9999999999999",
                       "Lambda-Runtime-Invoked-Function-Arn": "arn", "Content-Type": "application/json"})

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while int(self.rfile.readline(), 16):
                self.rfile.readline()  # a short answer is one line
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answers.put(self.path)
        self.say(202, {})

    def say(self, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "2"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass

api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=api.serve_forever, daemon=True).start()
about = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % api.server_address[1], "LAMBDA_TASK_ROOT": os.getcwd(),
         "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1",
         "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
         "AWS_LAMBDA_LOG_STREAM_NAME": "s"}
child = subprocess.Popen([sys.executable, "-m", "awslambdaric", "function.handler"], env={**os.environ, **about})
for _ in range(8):
    asks.get(timeout=60)
    child.send_signal(signal.SIGSTOP)
    child.send_signal(signal.SIGCONT)
    events.put(1)
    assert "/response" in answers.get(timeout=60)
asks.get(timeout=60)
child.send_signal(signal.SIGSTOP)
child.kill()
"""
HANDLER = "from application import note\nDECORATOR\ndef handler(event, context):\n    note()\n"
SERVERLESS = (
    Row(
        "AWS Lambda, frozen after each answer, then killed",
        "awslambdaric",
        RUN,
        {"program.py": LAMBDA, "function.py": HANDLER.replace("DECORATOR\n", "")},
        stop=None,
        line_files={
            "function.py": "from whisperr.integrations.aws_lambda import deliver\n"
            + HANDLER.replace("DECORATOR", "@deliver")
        },
        shown="`@deliver`",
        why="nothing runs after the answer",
        light=True,
    ),
)

SCRIPT = "from application import many, wait\nmany()\nwait()\n"


def managed(name: str, package: str, command: Sequence[str], files: Mapping[str, str]) -> Row:
    return Row(
        name,
        package,
        command,
        {"work.py": SCRIPT, **files},
        events=5,
        line=DELIVER,
        why="it stops a script by SIGTERM",
    )


MANAGERS = (
    managed(
        "supervisord",
        "supervisor",
        ("{bin}/supervisord", "-n", "-c", "supervisord.conf"),
        {
            "supervisord.conf": "[supervisord]\nnodaemon=true\n[program:work]\ncommand=python3 work.py\n"
        },
    ),
    managed("honcho", "honcho", ("{bin}/honcho", "start"), {"Procfile": "work: python3 work.py\n"}),
    managed(
        "Circus",
        "circus",
        ("{bin}/circusd", "circus.ini"),
        {
            "circus.ini": "[watcher:work]\ncmd = python3 work.py\ncopy_env = True\n"
            "[circus]\nendpoint = ipc://endpoint\npubsub_endpoint = ipc://pubsub\nstatsd = False\n"
        },
    ),
)

ROWS = (*SERVERS, *MOD_WSGI, *JOBS, *SERVERLESS, *PROGRAMS, *MANAGERS)
