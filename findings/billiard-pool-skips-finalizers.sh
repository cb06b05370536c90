#!/bin/sh
# billiard 4.3.2: a worker of its Pool that is closed and joined ends without its finalizers: what was
# registered by billiard.util.Finalize with an exit priority does not run. It does in a billiard.Process, and
# in the workers of multiprocessing's Pool (and of multiprocess 0.70.19), from which billiard stems.
# Expected: the same end for a child of all three, as they share the interface.
# Output: see the last line of this file. Fails if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check billiard==4.3.2 multiprocess==0.70.19
cat > "$folder/program.py" <<'PROGRAM'
import importlib
import os
import sys


def work(library):
    util = importlib.import_module(library + ".util")
    util.Finalize(None, os.write, args=(1, b"finalizer, "), exitpriority=0)


if __name__ == "__main__":
    library, kind = sys.argv[1:]
    context = importlib.import_module(library).get_context("fork")
    os.write(1, (library + " " + kind + ": ").encode())
    if kind == "Pool":
        pool = context.Pool(1)
        pool.apply(work, (library,))
        pool.close()
        pool.join()
    else:
        process = context.Process(target=work, args=(library,))
        process.start()
        process.join()
    os.write(1, b"end. ")
PROGRAM
said=$(for library in multiprocessing multiprocess billiard; do
    for kind in Process Pool; do "$folder/venv/bin/python" "$folder/program.py" "$library" "$kind"; done
done)
echo "$said"
test "$said" = "multiprocessing Process: finalizer, end. multiprocessing Pool: finalizer, end. multiprocess Process: finalizer, end. multiprocess Pool: finalizer, end. billiard Process: finalizer, end. billiard Pool: end. "
