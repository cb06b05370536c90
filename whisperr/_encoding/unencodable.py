"""How a value without a JSON form is refused: by the name of its type and the place where it stands."""

from __future__ import annotations

from typing import Any


class Unencodable(ValueError):
    """The value has no JSON form. Its text names types, never values."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []  # keys and indices down to the value, where that is known


def type_name(value: Any) -> str:
    """The name of the type that a value really has, whatever it or its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name
