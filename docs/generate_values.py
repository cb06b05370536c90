"""Writes the tables of docs/values.md: `python docs/generate_values.py`. A test compares them."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support.value_table import markdown  # noqa: E402  # found by the line above

PAGE = HERE / "values.md"
BEGIN, END = "<!-- generated from here -->\n", "<!-- to here -->\n"


def page(text: str) -> str:
    """The page with its tables written anew."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN.strip()} and {END.strip()} in {PAGE.name}")
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
