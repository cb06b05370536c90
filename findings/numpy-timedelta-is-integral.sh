#!/usr/bin/env bash
# numpy's timedelta64 is a numbers.Integral, and whether int() takes it depends on its unit.
#
# Installs the public packages named below in a temporary folder, shows what they do, and exits with 1
# when they no longer do it. PYTHON names another interpreter than python3.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.1.3
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import numbers
import sys

import numpy as np

print("numpy", np.__version__)
as_int = {}
for count, unit in ((90, "s"), (90_000_000, "us"), (90_000_000_000, "ns")):
    value = np.timedelta64(count, unit)
    try:
        as_int[unit] = int(value)
    except TypeError:
        as_int[unit] = "TypeError"
    integral = isinstance(value, numbers.Integral)
    print(f"{value!r}: Integral {integral}, item() {value.item()!r}, int() {as_int[unit]}")
    if not integral:
        sys.exit(1)
sys.exit(as_int != {"s": "TypeError", "us": "TypeError", "ns": 90_000_000_000})
PROGRAM
