#!/bin/sh
# opentelemetry-sdk 1.41.0 and 1.41.1 (the last for Python 3.9): from the second collection on, every reader of a
# MeterProvider, the one in memory for tests too, is given a scope that the application has not made:
# "opentelemetry-sdk", with how long a collection took. 1.40.0 and 1.42.0 give the application's own alone.
# Whoever takes the only scope of a result, or sums over all of them, is right on every other version.
# Expected: the application's scopes, in each collection.
# Output: "1.40.0: 1 1; 1.41.0: 1 2; 1.41.1: 1 2; 1.42.0: 1 1" (scopes in the first and the second). Fails if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
cat > "$folder/program.py" <<'PROGRAM'
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
provider = MeterProvider([reader])
provider.get_meter("mine").create_counter("seen").add(1)
counts = []
for _ in range(2):
    counts.append(len(reader.get_metrics_data().resource_metrics[0].scope_metrics))
print(*counts)
provider.shutdown()
PROGRAM
found=
for version in 1.40.0 1.41.0 1.41.1 1.42.0; do
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "opentelemetry-sdk==$version"
    found="$found${found:+; }$version: $("$folder/venv/bin/python" "$folder/program.py")"
done
echo "$found"
test "$found" = "1.40.0: 1 1; 1.41.0: 1 2; 1.41.1: 1 2; 1.42.0: 1 1"
