"""The only ``os.register_at_fork`` of the package.

Guarantees:
    After a fork every living member is told in the child, once, before the fork returns
    there. One member that fails keeps no other from being told, and nothing is raised.
Law: there is no hook before the fork and none in the parent: gevent and uvloop run those for
    every subprocess, and the child must be right without them. What a member does in the
    child opens nothing, logs nothing, waits for nothing and starts no thread.
Guarded by nothing: the members are a plain dict that is changed, and copied, in one step.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Protocol


class Member(Protocol):
    """Something that holds state of one process."""

    def _after_fork_in_child(self) -> None: ...


_members: dict[int, weakref.ReferenceType[Member]] = {}


def join(member: Member) -> None:
    """Have the member told of forks for as long as it lives."""
    key = id(member)
    _members[key] = weakref.ref(member, lambda _: _members.pop(key, None))


def members() -> list[Member]:
    """The living members."""
    found = (reference() for reference in list(_members.values()))
    return [member for member in found if member is not None]


def _tell_members() -> None:
    for member in members():
        try:
            member._after_fork_in_child()
        except Exception as error:  # can't be logged here: a lock of logging may be inherited
            sys.stderr.write(f"whisperr: {type(error).__name__} after a fork\n")


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_tell_members)
