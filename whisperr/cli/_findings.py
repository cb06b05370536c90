"""What the doctor has to say: findings, in words for people and as JSON for scripts."""

from __future__ import annotations

import json
import textwrap
from typing import Any, NamedTuple, Sequence

from whisperr._version import __version__

OK, ADVICE, WRONG = "ok", "advice", "WRONG"

_WIDTH = 100  # characters of a line
_INDENT = " " * 9


class Finding(NamedTuple):
    """One sentence about one thing, and what to change."""

    about: str
    level: str
    what: str
    change: str = ""


def ok(about: str, what: str) -> Finding:
    """As it should be."""
    return Finding(about, OK, what)


def advice(about: str, what: str, change: str) -> Finding:
    """Works, but something could be better, or could not be looked at."""
    return Finding(about, ADVICE, what, change)


def wrong(about: str, what: str, change: str) -> Finding:
    """Events are lost by this, or not sent at all."""
    return Finding(about, WRONG, what, change)


def without_secret(secret: str | None, findings: Sequence[Finding]) -> list[Finding]:
    """The same, should a server or an error have repeated the key."""
    if not secret:
        return list(findings)
    hidden = [[part.replace(secret, "<key>") for part in finding] for finding in findings]
    return [Finding(*parts) for parts in hidden]


def as_text(findings: Sequence[Finding]) -> str:
    """For people."""
    lines = [f"whisperr {__version__}"]
    about = ""
    for finding in findings:
        if finding.about != about:
            about = finding.about
            lines += ["", about]
        lines += _wrapped(f"  {finding.level:6} ", finding.what)
        if finding.change:
            lines += _wrapped(_INDENT + "-> ", finding.change)
    counts = {level: sum(f.level == level for f in findings) for level in (WRONG, ADVICE)}
    lines += ["", _verdict(counts[WRONG], counts[ADVICE])]
    return "\n".join(lines)


def as_json(findings: Sequence[Finding], status: int) -> str:
    """For scripts."""
    listed: list[dict[str, Any]] = [
        {
            "about": finding.about,
            "level": finding.level.lower(),
            "what": finding.what,
            "change": finding.change or None,
        }
        for finding in findings
    ]
    return json.dumps({"version": __version__, "status": status, "findings": listed}, indent=2)


def _wrapped(first: str, text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        begin = first if not lines else " " * len(first)
        lines += textwrap.wrap(
            paragraph,
            _WIDTH,
            initial_indent=begin,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _verdict(wrong: int, advised: int) -> str:
    if wrong:
        return f"{wrong} thing{'' if wrong == 1 else 's'} to put right."
    return f"Nothing is wrong{f'; {advised} to consider' if advised else ''}."
