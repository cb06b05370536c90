"""HTTPS in front of a plain server: one more socket on loopback, and a certificate for it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

# Made for these tests alone, for 127.0.0.1, until the year 2126.
PEM = """\
-----BEGIN CERTIFICATE-----
MIIBoTCCAUagAwIBAgIUXxMmofNZt3qU4JiVG8kStOZtIQAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE3MDQxMFoYDzIxMjYxMDMw
MTcwNDEwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASsU5IxMae9jdjD/6dik7in5zi5tbskkYNRxvc8UyBoreUK8wK/PxXo
wWJiKTh+2Nmxpc8v57TfQRASOp6/paaoo3QwcjAdBgNVHQ4EFgQUt3wBYiO/x35L
gVzGLGAGyN1LNW4wHwYDVR0jBBgwFoAUt3wBYiO/x35LgVzGLGAGyN1LNW4wDwYD
VR0RBAgwBocEfwAAATAOBgNVHQ8BAf8EBAMCAoQwDwYDVR0TAQH/BAUwAwEB/zAK
BggqhkjOPQQDAgNJADBGAiEA69j0SKKjUZkXdOpkaAHSLXLcknQx4rcvX96S7dYm
FFECIQC4mwpzw3Qf21e26BF86MwJH1M5/WKPyxHCd7yTqcF63w==
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQguFNm1BYWyszHllD4
lk7xARQNgFZMShpbmVsRiQs332uhRANCAASsU5IxMae9jdjD/6dik7in5zi5tbsk
kYNRxvc8UyBoreUK8wK/PxXowWJiKTh+2Nmxpc8v57TfQRASOp6/paao
-----END PRIVATE KEY-----
"""
CHUNK = 65536  # bytes


@contextlib.contextmanager
def https_before(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a TLS front of the server at ``url``, and the file of its certificate."""
    pem = folder / "tls.pem"
    pem.write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem))
    there = (urlsplit(url).hostname, urlsplit(url).port)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        threading.Thread(target=_accept, args=(listening, context, there), daemon=True).start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", pem
        listening.shutdown(socket.SHUT_RDWR)  # or the thread would go on accepting


def _accept(listening: socket.socket, context: ssl.SSLContext, there: object) -> None:
    with contextlib.suppress(OSError):
        while True:
            accepted, _ = listening.accept()
            threading.Thread(target=_serve, args=(accepted, context, there), daemon=True).start()


def _serve(accepted: socket.socket, context: ssl.SSLContext, there: object) -> None:
    """One connection. Speaks in turns, as a client does that waits for its answer."""
    with contextlib.suppress(OSError), accepted, socket.socket() as plain:
        plain.connect(there)  # type: ignore[arg-type]
        with context.wrap_socket(accepted, server_side=True) as secure:
            answers = threading.Thread(target=_pump, args=(plain, secure), daemon=True)
            answers.start()
            _pump(secure, plain)
            answers.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(CHUNK)
            if not data:
                break
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
