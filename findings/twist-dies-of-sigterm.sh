#!/bin/sh
# Twisted 26.10.0: SIGTERM stops a reactor in order, and reactor.run() returns; under the `twist` command the
# same signal stops it in order, and is then raised again with its default action: the process dies of it, and
# no exit handler (atexit) of the application runs. What has to run at the end belongs into a system event trigger.
# Expected: an end by sys.exit, as with reactor.run(), with the exit handlers.
# Output: "reactor.run: exit handler, status 0; twist: status 143". Fails if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check Twisted==26.10.0
cat > "$folder/program.py" <<'PROGRAM'
import atexit
import os
import signal
import sys

from twisted.application.twist._twist import Twist
from twisted.internet import reactor

atexit.register(os.write, 1, b"exit handler, ")
reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGTERM)
if sys.argv[1] == "twist":
    Twist.main(["twist", "--log-file", os.devnull, "web", "--listen", "tcp:0:interface=127.0.0.1"])
else:
    reactor.run()
PROGRAM
run() {
    status=0
    said=$("$folder/venv/bin/python" "$folder/program.py" "$1" 2>/dev/null) || status=$?
    printf '%s: %sstatus %s' "$1" "$said" "$status"
}
found="$(run reactor.run); $(run twist)"
echo "$found"
test "$found" = "reactor.run: exit handler, status 0; twist: status 143"
