"""The SQLite file behind the sandbox: its tables, its transactions, and how much it keeps.

Without a path SQLite's nameless database is used: it lives in memory, and what does not fit into
its cache goes to a temporary file that vanishes with the process.
Assumes:
    One thread, the event loop's.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any, Iterable, Iterator, Sequence

from whisperr.sandbox import defaults

CACHE = 64  # MiB in memory
APPLICATION_ID = 0x77687370  # marks a file as ours
VERSION = 1
DELETE_EVERY = 4096  # rows; the cap may be exceeded by that many
CHUNK = 500  # parameters of one IN

# ``state`` is one of whisperr.sandbox.server.rows; the indices serve the page, but for two: (account) is for a key's own list, (message_id, account) for finding a first copy.
_SCHEMA = """
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, label TEXT NOT NULL,
    counts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, agent TEXT NOT NULL, process TEXT NOT NULL);
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY, account INTEGER NOT NULL, status INTEGER NOT NULL,
    entry TEXT NOT NULL);
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL, lane INTEGER NOT NULL,
    request INTEGER NOT NULL, kind INTEGER NOT NULL, state INTEGER NOT NULL, time REAL NOT NULL,
    user TEXT, type TEXT, message_id TEXT, body TEXT NOT NULL, reason TEXT);
CREATE TABLE identities (
    account INTEGER, user TEXT, idempotency_key TEXT, body TEXT NOT NULL,
    PRIMARY KEY (account, user)) WITHOUT ROWID;
CREATE TABLE numbers (
    account INTEGER, number TEXT, message_id TEXT NOT NULL,
    PRIMARY KEY (account, number)) WITHOUT ROWID;
CREATE INDEX accounts_digest ON accounts (digest);
CREATE INDEX requests_account ON requests (account);
CREATE INDEX rows_account ON rows (account);
CREATE INDEX rows_message ON rows (message_id, account);
CREATE INDEX rows_user ON rows (user);
CREATE INDEX rows_type ON rows (type);
CREATE INDEX rows_lane ON rows (lane);
CREATE INDEX rows_trouble ON rows (state) WHERE state <> 1;
"""


class DatabaseError(Exception):
    """The file cannot be used; the text says why."""


class Database:
    """All tables of one sandbox.

    path: a file that is made when it is missing; None for memory.
    keep: how many rows, and how many requests, are kept at the most.
    Raises DatabaseError.
    """

    def __init__(self, path: str | None = None, keep: int = defaults.KEEP) -> None:
        self._keep = keep
        self._since_deletion = 0
        if path is not None:
            _create_private(path)
        try:
            self._connection = sqlite3.connect(path or "", isolation_level=None, timeout=0)
            try:
                self._open(path)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as exc:
            raise DatabaseError(f"{path}: {_plain(exc)}") from None

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """What is done inside is kept as a whole, or not at all."""
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def run(self, sql: str, *values: object) -> int:
        """Execute one statement; returns the id of the row it made."""
        return int(self._connection.execute(sql, values).lastrowid or 0)

    def all(self, sql: str, *values: object) -> list[Any]:
        return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        """The first row, or None."""
        return self._connection.execute(sql, values).fetchone()

    def many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(sql, values)

    def among(self, sql: str, values: Sequence[object], *more: object) -> list[Any]:
        """All rows of ``sql``, whose ``{}`` becomes the parameters of an IN over ``values``."""
        found: list[Any] = []
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            found += self.all(sql.format(",".join("?" * len(chunk))), *chunk, *more)
        return found

    def add_rows(self, rows: Sequence[Sequence[object]]) -> None:
        """Append rows, each a tuple of all columns but ``seq``."""
        self.many("INSERT INTO rows VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?)", rows)
        self._since_deletion += len(rows)
        if self._since_deletion >= DELETE_EVERY:
            self._since_deletion = 0
            self._delete_oldest()

    def _delete_oldest(self) -> None:
        for table in ("rows", "requests"):
            newest = self.one(f"SELECT max(seq) FROM {table}")[0] or 0
            self.run(f"DELETE FROM {table} WHERE seq <= ?", newest - self._keep)

    def _open(self, path: str | None) -> None:
        if path is None:
            self.all("PRAGMA journal_mode = MEMORY")
        else:
            # Before anything that reads: what is open already stays shared with another sandbox.
            self.all("PRAGMA locking_mode = EXCLUSIVE")
            tables = self.one("SELECT count(*) FROM sqlite_master")[0]
            if tables and self.one("PRAGMA application_id")[0] != APPLICATION_ID:
                raise DatabaseError(f"{path}: a database, but not one of a sandbox")
            if tables and self.one("PRAGMA user_version")[0] != VERSION:
                raise DatabaseError(f"{path}: made by another version of the sandbox")
            self.all("PRAGMA journal_mode = WAL")
        self.run(f"PRAGMA cache_size = -{CACHE * 1024}")
        self.all("PRAGMA synchronous = OFF")  # a power cut may lose it; it is a sandbox
        with self.change():
            if self.one("SELECT count(*) FROM sqlite_master")[0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    self.run(statement)
                self.run(f"PRAGMA application_id = {APPLICATION_ID}")
                self.run(f"PRAGMA user_version = {VERSION}")


def _create_private(path: str) -> None:
    """Events are personal data: the file is for its owner alone."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as exc:
        raise DatabaseError(f"{path}: {exc.strerror}") from None


def _plain(exc: sqlite3.Error) -> str:
    if "locked" in str(exc):
        return "in use; is another sandbox running on it?"
    return str(exc)
