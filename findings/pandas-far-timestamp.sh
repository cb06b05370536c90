#!/usr/bin/env bash
# A pandas Timestamp beyond the year 9999 is a datetime of another year for the standard library.
#
# Installs the public packages named below in a temporary folder, shows what they do, and exits with 1
# when they no longer do it. PYTHON names another interpreter than python3.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pandas==2.2.3 numpy==2.1.3
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import datetime
import sys

import pandas as pd

moment = pd.Timestamp("2026-01-31").as_unit("s").replace(year=20000)
own, base = moment.isoformat(), datetime.datetime.isoformat(moment)
print("pandas", pd.__version__)
print("isinstance(moment, datetime.datetime):", isinstance(moment, datetime.datetime))
print("moment.isoformat():                   ", own)
print("datetime.datetime.isoformat(moment):  ", base)
sys.exit(not (own.startswith("20000-01-31") and base.startswith("1972-01-31")))
PROGRAM
