"""AWS Lambda's runtime API on loopback, and Lambda's own client under it, frozen between invocations.

The service side of a function: it hands out events, takes answers, and stops the process
(SIGSTOP) from the moment at which it asks for the next event until there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, NamedTuple

from support.deadlines import DEADLINE
from support.groups import Group, started
from support.parts import need

VERSION = "/2018-06-01/runtime"
TIME_LEFT = 60.0  # seconds that an invocation is given


class Answer(NamedTuple):
    """What the function said, and what ``look()`` saw at that moment, before the function was told."""

    kind: str  # response or error
    body: Any
    seen: Any


class Runtime:
    """One function's environment. ``look``: called whenever an answer comes."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self.look = look
        self.asks: Any = queue.Queue()
        self.events: Any = queue.Queue()
        self.answers: Any = queue.Queue()
        self.restored = threading.Event()
        self.group: Group | None = None

    def invoke(self, event: Any) -> Answer:
        """Thaw it, hand the event out, take the answer, and freeze it when it asks for the next one."""
        self.wait_until_frozen()
        self._signal(signal.SIGCONT)
        self.events.put(event)
        return Answer(*self.answers.get(timeout=DEADLINE))

    def wait_until_frozen(self) -> None:
        self.asks.get(timeout=DEADLINE)
        self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        assert self.group is not None
        self.group.send(number)


def _handler_of(runtime: Runtime) -> type[BaseHTTPRequestHandler]:
    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        count = 0

        def do_GET(self) -> None:
            if self.path == f"{VERSION}/restore/next":
                runtime.asks.put("restore")
                runtime.restored.wait()
                self._say(200, b"")
                return
            runtime.asks.put("next")
            body = json.dumps(runtime.events.get()).encode()
            type(self).count += 1
            deadline = int((time.time() + TIME_LEFT) * 1000)
            headers = {
                "Lambda-Runtime-Aws-Request-Id": str(self.count),
                "Lambda-Runtime-Deadline-Ms": str(deadline),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:x:1:function:f",
                "Content-Type": "application/json",
            }
            self._say(200, body, headers)

        def do_POST(self) -> None:
            body = json.loads(self._body() or b"null")
            kind = self.path.rpartition("/")[2]
            runtime.answers.put((kind, body, runtime.look()))
            self._say(202, b"{}")

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
                if not size:
                    return b"".join(pieces)

        def _say(self, status: int, body: bytes, headers: Any = ()) -> None:
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Api


@contextlib.contextmanager
def function(
    folder: Path,
    source: str,
    look: Callable[[], Any],
    environment: dict[str, str],
) -> Iterator[Runtime]:
    """The module ``function`` under awslambdaric, killed at the end, as Lambda does it."""
    need("awslambdaric")
    (folder / "function.py").write_text(source)
    runtime = Runtime(look)
    api = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(runtime))
    threading.Thread(target=api.serve_forever, daemon=True).start()
    words = folder / "said"
    try:
        with open(words, "wb") as said, started(
            [sys.executable, "-m", "awslambdaric", "function.handler"],
            lambda: words.read_text(errors="replace"),
            cwd=str(folder),
            env={
                **os.environ,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_address[1]}",
                "AWS_LAMBDA_FUNCTION_NAME": "function",
                "AWS_LAMBDA_FUNCTION_VERSION": "1",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_LAMBDA_LOG_GROUP_NAME": "group",
                "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
                "LAMBDA_TASK_ROOT": str(folder),
                **environment,
            },
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as group:
            runtime.group = group
            yield runtime
    finally:
        api.shutdown()
        api.server_close()
