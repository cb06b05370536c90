#!/bin/sh
# RabbitMQ 3.10.8 (of Debian 12), quorum queues: x-delivery-limit -1, by which RabbitMQ 4 is told to have none, is taken
# without a word and means that a message is deleted when it comes back for the first time, as after a consumer that
# has ended. With 20, or without a limit, it stays. Whoever declares a queue for both versions with -1 loses messages
# on the older one.
# Expected: no limit, or a refusal of the argument.
# Output: "3.10.8: -1: 1 then 0; 20: 1 then 1; none: 1 then 1" (messages before and after one was given back).
# Fails if that changes. Needs Debian 12 and its mirror; installs nothing outside of a temporary folder.
set -eu
folder=$(mktemp -d)
node=
registry=
clean() {
    test -z "$node" || kill -9 "-$node" 2>/dev/null || true
    test -z "$registry" || kill "$registry" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT
cd "$folder"
erlang="base crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl asn1"
apt-get download -qq rabbitmq-server $(for part in $erlang; do echo "erlang-$part"; done) 2>/dev/null
for package in *.deb; do dpkg-deb -x "$package" root; done
sed -i "s|^ROOTDIR=.*|ROOTDIR=$folder/root/usr/lib/erlang|" root/usr/lib/erlang/bin/erl
sed -i "s|^ROOTDIR=.*|ROOTDIR=$folder/root/usr/lib/erlang|" root/usr/lib/erlang/erts-*/bin/erl
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check amqp==5.4.2
free_port() { venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
export HOME="$folder" PATH="$folder/root/usr/lib/erlang/bin:$PATH" ERL_EPMD_PORT="$(free_port)" ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME=finding@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
export RABBITMQ_DIST_PORT="$(free_port)" RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/log"
export RABBITMQ_PID_FILE="$folder/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/plugins"
echo '[].' > plugins
root/usr/lib/erlang/erts-*/bin/epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
registry=$!
setsid root/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server > said 2>&1 &
node=$!
cat > program.py <<'PROGRAM'
import sys
import time

import amqp


def connected(question):
    with amqp.Connection(f"127.0.0.1:{sys.argv[1]}", connect_timeout=10, read_timeout=10) as connection:
        return question(connection.channel())


deadline = time.monotonic() + 120
while True:
    try:
        version = connected(lambda channel: channel.connection.server_properties["version"])
        break
    except OSError:
        assert time.monotonic() < deadline, open("said").read()
        time.sleep(0.5)


def settled(queue):
    """How many wait, once that has not changed for two seconds: a message goes back a little later."""
    counts = []
    while len(counts) < 20 or len(set(counts[-8:])) > 1:
        counts.append(connected(lambda channel: channel.queue_declare(queue, passive=True).message_count))
        time.sleep(0.25)
    return counts[-1]


found = []
for limit in (-1, 20, None):
    queue = f"limit{limit}"
    arguments = {"x-queue-type": "quorum", **({} if limit is None else {"x-delivery-limit": limit})}

    def publish(channel):
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channel.basic_publish_confirm(amqp.Message(b"x", delivery_mode=2), routing_key=queue)

    connected(publish)
    before = settled(queue)
    assert connected(lambda channel: channel.basic_get(queue)).body == b"x"  # and not acknowledged
    found.append(f"{'none' if limit is None else limit}: {before} then {settled(queue)}")
print(f"{version}: " + "; ".join(found))
PROGRAM
found=$(venv/bin/python program.py "$port")
echo "$found"
test "$found" = "3.10.8: -1: 1 then 0; 20: 1 then 1; none: 1 then 1"
