"""What the commands print, whatever standard output and standard error are.

A terminal may have few characters (ASCII, cp437), the reader of a pipe may have left, a disk may
be full, and the stream may not be there at all (``>&-``). A character that the terminal does not
have becomes a question mark. Where nothing can be printed, the command ends with a sentence on
standard error and the status 1, and never with a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from typing import Any, Callable, Iterable, Iterator, Sequence

INTERRUPTED = 130  # the status of a command that Ctrl-C has ended, as of a shell


class OutputError(Exception):
    """Standard output takes nothing more. The text says why."""


class ReaderLeft(OutputError):
    """Nobody reads the pipe any longer: ``| head`` has seen enough."""


def run(program: str, command: Callable[[], int]) -> int:
    """Run a command; returns its exit status once all that it printed is out."""
    _occupy_missing_descriptors()
    for stream in (sys.stdout, sys.stderr):
        _print_what_it_has(stream)
    try:
        try:
            return command()
        finally:  # also where argparse ends by SystemExit
            flush()
    except ReaderLeft:
        return 0
    except OutputError as error:
        complain(program, f"standard output can't be written: {error}")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options. ``--help`` and ``--version`` print, and so may raise OutputError."""
    printed = io.StringIO()  # argparse itself ignores what standard output raises, or does not
    try:
        with contextlib.redirect_stdout(printed):
            return parser.parse_args(arguments)
    finally:
        if printed.getvalue():
            write(printed.getvalue().rstrip("\n"))


def write(text: str) -> None:
    """Print a line. Raises OutputError."""
    stream = sys.stdout
    if stream is None:
        raise OutputError("it is closed")
    with _output_errors():
        stream.write(text + "\n")


def rewrite(text: str) -> None:
    """Show a line in the place of the one that was shown before. For terminals. Raises OutputError."""
    stream = sys.stdout
    if stream is None:
        raise OutputError("it is closed")
    with _output_errors():
        stream.write(f"\r{text}\x1b[K")
        stream.flush()


def write_table(lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what stands in them. The first line is the names."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        write("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def write_json_lines(values: Iterable[Any]) -> None:
    """Print each value as a line of JSON, in UTF-8 whatever the terminal is. Raises OutputError."""
    flush()
    stream = sys.stdout
    buffer = getattr(stream, "buffer", None)  # a stand-in of a test may have none
    for value in values:
        line = json.dumps(value, ensure_ascii=False) + "\n"
        try:
            data = line.encode()
        except UnicodeEncodeError:  # a lone surrogate
            line = json.dumps(value) + "\n"
            data = line.encode()
        if buffer is None:
            write(line[:-1])
        else:
            with _output_errors():
                buffer.write(data)


def flush() -> None:
    """See that all that was printed is out. Raises OutputError."""
    if sys.stdout is not None:
        with _output_errors():
            sys.stdout.flush()


def complain(program: str, message: str) -> None:
    """A sentence on standard error, where there is one."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        print(f"{program}: {message}", file=stream, flush=True)
    except (OSError, ValueError):
        _discard(stream)


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    """What standard output raises becomes an OutputError, and what it still holds is thrown away."""
    try:
        yield
    except BrokenPipeError:
        _discard(sys.stdout)
        raise ReaderLeft("its reader has left") from None
    except (OSError, ValueError) as error:  # a ValueError: it was closed
        _discard(sys.stdout)
        raise OutputError(getattr(error, "strerror", None) or str(error)) from None


def _discard(stream: Any) -> None:
    """Or the interpreter would try again to write what is left, at its end, and say so."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _print_what_it_has(stream: Any) -> None:
    """A question mark for a character that the stream's encoding does not have."""
    if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")


def _occupy_missing_descriptors() -> None:
    """Where 0, 1 or 2 is closed, the next file that is opened gets it, and what others print."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
