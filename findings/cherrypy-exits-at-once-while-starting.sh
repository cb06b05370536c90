#!/bin/sh
# CherryPy 18.10.0: its server answers requests some tenths of a second before its bus is STARTED. A SIGTERM in
# that time, handled by its own signal handler, ends the process by os._exit(70): no exit handler (atexit) of the
# application runs, although it has served. From STARTED on the same signal ends it in order, with status 0.
# Expected: the orderly end for whatever has answered a request.
# Output: "starting: answered 200, status 70; started: answered 200, exit handler, status 0". Fails if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check CherryPy==18.10.0
cat > "$folder/program.py" <<'PROGRAM'
import atexit
import http.client
import os
import signal
import socket
import sys

import cherrypy


class Application:
    @cherrypy.expose
    def index(self):
        return "ok"


def ask_and_stop():
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    os.write(1, b"answered %d, " % connection.getresponse().status)
    os.kill(os.getpid(), signal.SIGTERM)


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
atexit.register(os.write, 1, b"exit handler, ")
cherrypy.config.update(
    {"server.socket_port": port, "engine.autoreload.on": False, "log.screen": False}
)
cherrypy.tree.mount(Application())
cherrypy.engine.signals.subscribe()
if sys.argv[1] == "starting":
    cherrypy.engine.subscribe("start", ask_and_stop, priority=90)  # the server begins at 75
cherrypy.engine.start()
ask_and_stop()
cherrypy.engine.block()
PROGRAM
run() {
    status=0
    said=$("$folder/venv/bin/python" "$folder/program.py" "$1" 2>/dev/null) || status=$?
    printf '%s: %sstatus %s' "$1" "$said" "$status"
}
found="$(run starting); $(run started)"
echo "$found"
test "$found" = "starting: answered 200, status 70; started: answered 200, exit handler, status 0"
