#!/usr/bin/env bash
# orjson writes other members of a dataclass than it declares, and an OrderedDict in another order.
#
# Installs the public packages named below in a temporary folder, shows what they do, and exits with 1
# when they no longer do it. PYTHON names another interpreter than python3.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check orjson==3.11.5
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import collections
import dataclasses
import json
import sys

import orjson


@dataclasses.dataclass
class Order:
    id: int
    _total: int = 2


order = Order(1)
order.seen = True
moved = collections.OrderedDict(a=1, b=2)
moved.move_to_end("a")
print("orjson", orjson.__version__)
print("dataclasses.asdict:", dataclasses.asdict(order), " orjson:", orjson.dumps(order))
print("json:", json.dumps(moved), " orjson:", orjson.dumps(moved))
same = orjson.dumps(order) == b'{"id":1,"seen":true}' and orjson.dumps(moved) == b'{"a":1,"b":2}'
sys.exit(not same)
PROGRAM
