"""The only ``os.register_at_fork`` of the package.

A client needs no telling: it asks which process it is in at every call (_process). What is told
is what holds something open that a child shares with its parent.

Guarantees:
    After a fork every living member is told in the child, once, before the fork returns
    there. One member that fails keeps no other from being told, and nothing is raised.
Law: there is no hook before the fork and none in the parent: gevent and uvloop run those for
    every subprocess, and the child must be right without them. What a member does in the
    child opens nothing, logs nothing, waits for nothing and starts no thread.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

from whisperr._process.registry import Registry


class Member(Protocol):
    """Something that holds state of one process."""

    def after_fork_in_child(self) -> None: ...


_members: Registry[Member] = Registry()


def join(member: Member) -> None:
    """Have the member told of forks for as long as it lives."""
    _members.add(member)


def _tell_members() -> None:
    for member in _members.living():
        try:
            member.after_fork_in_child()
        except Exception as error:  # can't be logged here: a lock of logging may be inherited
            sys.stderr.write(f"whisperr: {type(error).__name__} after a fork\n")


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_tell_members)
