"""Small disks of a real kind: mounted for one test, unmounted in all cases. They need root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.parts import need

KIB = 1024
SMALL = 4 * KIB * KIB  # bytes of a disk that is soon full


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"


def _unmount(place: Path) -> None:
    try:
        _run("umount", place)
    except AssertionError:
        _run("umount", "--lazy", place)  # something still has a file open there
        raise


@contextlib.contextmanager
def mounted(place: Path, *arguments: object) -> Iterator[Path]:
    """``mount arguments place``, and never a failure that is passed over."""
    need("small disks")
    place.mkdir(exist_ok=True)
    _run("mount", *arguments, place)
    try:
        yield place
    finally:
        _unmount(place)


@contextlib.contextmanager
def tmpfs(folder: Path, size: int = SMALL, options: str = "") -> Iterator[Path]:
    with mounted(folder / "tmpfs", "-t", "tmpfs", "-o", f"size={size}{options}", "disk") as place:
        yield place


@contextlib.contextmanager
def ext4(folder: Path, size: int = SMALL) -> Iterator[Path]:
    """An image on a loop device. What is in it outlives the mount."""
    need("ext4")
    image = folder / "image"
    if not image.exists():
        image.write_bytes(b"")
        with open(image, "r+b") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    with mounted(folder / "ext4", "-o", "loop", image) as place:
        yield place


@contextlib.contextmanager
def overlay(folder: Path, size: int = SMALL) -> Iterator[Path]:
    """A file system of a kind that may not be mapped, over a small one."""
    with tmpfs(folder, size) as below:
        for name in ("lower", "upper", "work"):
            (below / name).mkdir()
        options = f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work"
        with mounted(folder / "overlay", "-t", "overlay", "-o", options, "disk") as place:
            yield place


def remount(place: Path, how: str) -> None:
    """``ro`` or ``rw``."""
    _run("mount", "-o", f"remount,{how}", place)


DISKS = {"tmpfs": tmpfs, "ext4": ext4, "overlay": overlay}

# For programs: the disk of a folder, filled from beside.
FILLING = """\
import contextlib
import threading


class Filler:
    \"\"\"Takes all the room there is on a disk, and all that anybody frees, until it ends.\"\"\"

    def __init__(self, folder):
        self.path = os.path.join(folder, "filler")
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.over = threading.Event()
        self.take()
        self.thread = threading.Thread(target=self.go_on)
        self.thread.start()

    def take(self):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(self.file, b"f" * size)

    def go_on(self):
        while not self.over.is_set():
            self.take()
            time.sleep(0.001)

    def end(self):
        self.over.set()
        self.thread.join()
        os.close(self.file)
        os.unlink(self.path)


class Heard:
    \"\"\"What the application is told: by on_error, and by the log.\"\"\"

    def __init__(self):
        import logging
        self.reports, self.warnings = [], []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warnings.append(record.getMessage())
        logging.getLogger("whisperr").addHandler(handler)

    def __call__(self, error):
        self.reports.append((error.type, error.message, error.count))

    def account(self, client):
        account(reports=self.reports, warnings=self.warnings, stats=client.stats())


def payload(client, numbers):
    for n in numbers:
        client.track("user_%d" % n, "it_happened", {"n": n, "text": "x" * 250})


"""
