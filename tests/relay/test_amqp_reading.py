"""How frames of a RabbitMQ are read: whatever comes at once, in pieces or late, none is lost."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from struct import pack
from typing import Any

import amqp
import pytest
from amqp.transport import TCPTransport

from support.deadlines import DEADLINE
from support.tls import PEM
from whisperr._broker.amqp_reading import BufferedConnection

SHORT = 0.01  # seconds
SIZES = (
    0,
    1,
    7,
    1000,
    131_064,
    5,
)  # bytes of payload; RabbitMQ makes no larger ones than the last but one


def payload(number: int) -> bytes:
    return bytes([number]) * SIZES[number]


def framed(number: int) -> bytes:
    return pack(">BHI", 1, number, SIZES[number]) + payload(number) + b"\xce"


FRAMES = [(1, number, payload(number)) for number in range(len(SIZES))]
STREAM = b"".join(map(framed, range(len(SIZES))))


class Reader:
    """A connection to a peer that this test plays, and what it has taken in."""

    def __init__(self, sock: socket.socket) -> None:
        self.taken: list[tuple[int, int, bytes]] = []
        self.connection = BufferedConnection(host="127.0.0.1")
        transport: Any = TCPTransport("127.0.0.1")
        transport.sock = sock
        self.connection.transport = transport
        self.connection.on_inbound_frame = self._take

    def _take(self, frame: tuple[int, int, bytes]) -> bool:
        self.taken.append(frame)
        return True

    def read(self, count: int) -> None:
        for _ in range(count):
            self.connection.blocking_read(DEADLINE)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_a_time_out_at_every_place(ends: tuple[socket.socket, socket.socket]) -> None:
    """In its head, in its payload, before its last byte: a frame goes on where it was."""
    here, there = ends
    reader = Reader(here)
    stream = framed(2) + framed(0)
    for at in range(len(stream)):
        with pytest.raises(socket.timeout):
            reader.connection.blocking_read(SHORT)
        there.sendall(stream[at : at + 1])
        if reader.connection.has_frame() or at in (len(framed(2)) - 1, len(stream) - 1):
            reader.read(1)
    assert reader.taken == [FRAMES[2], FRAMES[0]]


def test_what_has_come_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    """One look at the socket, whose peer says no more, brings all the frames that are there."""
    here, there = ends
    reader = Reader(here)
    there.sendall(framed(0) + framed(1) + framed(2))
    reader.read(1)
    here.close()  # who asks it fails
    while reader.connection.has_frame():
        reader.connection.blocking_read()
    assert reader.taken == FRAMES[:3]


def test_frames_of_all_sizes(ends: tuple[socket.socket, socket.socket]) -> None:
    """Larger than what one call of the system's brings, too. The end of the peer is an error."""
    here, there = ends
    reader = Reader(here)

    def send() -> None:
        there.sendall(STREAM * 3)
        there.shutdown(socket.SHUT_WR)

    with running(send):
        reader.read(3 * len(SIZES))
        with pytest.raises(OSError, match="the broker has closed the connection"):
            reader.read(1)
    assert reader.taken == FRAMES * 3


def test_over_tls(ends: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """What lies decrypted in the layer between counts as come."""
    here, there = ends
    pem = tmp_path / "tls.pem"
    pem.write_text(PEM)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(str(pem))
    client = ssl.create_default_context(cafile=str(pem))
    go_on = threading.Event()

    def serve() -> None:
        with server.wrap_socket(there, server_side=True) as secure:
            secure.sendall(framed(1)[:3])
            assert go_on.wait(DEADLINE)
            secure.sendall(framed(1)[3:] + STREAM)
            assert secure.recv(1) == b"!"

    with running(serve), client.wrap_socket(here, server_hostname="127.0.0.1") as secure:
        reader = Reader(secure)
        with pytest.raises(socket.timeout):
            reader.connection.blocking_read(SHORT)
        go_on.set()
        reader.read(1 + len(SIZES))
        secure.sendall(b"!")
    assert reader.taken == [FRAMES[1], *FRAMES]


def test_what_is_no_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    """Another last byte than that of all frames: an error, and no guess where the next one begins."""
    here, there = ends
    there.sendall(framed(1)[:-1] + b"?")
    with pytest.raises(amqp.UnexpectedFrame):
        Reader(here).read(1)


@contextlib.contextmanager
def running(work: Any) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not thread.is_alive()
