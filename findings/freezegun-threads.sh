#!/bin/sh
# freezegun 1.5.5: inside freeze_time(), time.time() is the real time when the caller is within five
# frames of threading.py, so in the target of a Thread, and the frozen one a few calls deeper in the
# same thread: "threading" is in the default ignore list, and the last five frames are looked at.
# Expected: one frozen time for all of the application's code.
# Output on 1.5.5: "main 2020, target real, five calls deeper 2020". Fails if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check freezegun==1.5.5
cat > "$folder/program.py" <<'PROGRAM'
import threading
import time

import freezegun


def year(calls_deeper=0):
    if calls_deeper:
        return year(calls_deeper - 1)
    found = time.gmtime(time.time()).tm_year
    return found if found == 2020 else "real"


def target():
    seen.append(year())
    seen.append(year(5))


seen = []
with freezegun.freeze_time("2020-01-01"):
    seen.append(year())
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
print("main %s, target %s, five calls deeper %s" % tuple(seen))
PROGRAM
said=$("$folder/venv/bin/python" "$folder/program.py")
echo "$said"
test "$said" = "main 2020, target real, five calls deeper 2020"
