"""A tracking plan: which event types there are, with which properties of which JSON types.

It is a JSON Schema of one event. Each event type has a definition of its properties, "identify" one
of traits. What a value is, never what it says, goes into it and into a complaint.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_MEMBERS = 100  # keys of one object; more are data, and no names

_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


class Seen(NamedTuple):
    """One event, or one identity."""

    type: str
    properties: dict[str, Any]


class Shape:
    """What was seen at one place."""

    def __init__(self) -> None:
        self.count = 0
        self.types: Counter[str] = Counter()
        self.members: dict[str, Shape] = {}
        self.items: Shape | None = None

    def add(self, value: Any) -> None:
        """Note one more value."""
        self.count += 1
        if isinstance(value, dict):
            self.types["object"] += 1
            for key, item in value.items():
                if key in self.members or len(self.members) <= MAX_MEMBERS:
                    self.members.setdefault(key, Shape()).add(item)
        elif isinstance(value, list):
            self.types["array"] += 1
            self.items = self.items or Shape()
            for item in value:
                self.items.add(item)
        else:
            self.types[_NAMES[type(value)]] += 1

    def names(self) -> list[str]:
        """The JSON types; an integer is a number, where there are others of these."""
        found = set(self.types)
        return sorted(found - {"integer"} if "number" in found else found)

    def required(self) -> list[str]:
        """The members that each object had."""
        return sorted(key for key, it in self.members.items() if it.count == self.types["object"])

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        names = self.names()
        made: dict[str, Any] = {"type": names[0] if len(names) == 1 else names}
        if "object" in names and len(self.members) <= MAX_MEMBERS:
            made["properties"] = {key: self.members[key].schema() for key in sorted(self.members)}
            made["required"] = self.required()
            made["additionalProperties"] = False
        if self.items is not None and self.items.count:
            made["items"] = self.items.schema()
        return made

    def rows(self, path: str = "") -> Iterator[tuple[str, str, str]]:
        """Path, types, and how often, of each member at any depth."""
        for key, member in sorted(self.members.items()):
            below = f"{path}.{key}" if path else key
            often = "always" if member.count == self.types["object"] else f"{member.count} times"
            yield below, " or ".join(member.names()), often
            yield from member.rows(below)
        if self.items is not None:
            yield from self.items.rows(f"{path}[]")


def shapes(seen: Iterable[Seen]) -> dict[str, Shape]:
    """By event type."""
    found: dict[str, Shape] = {}
    for entry in seen:
        found.setdefault(entry.type, Shape()).add(entry.properties)
    return dict(sorted(found.items()))


def schema(found: Mapping[str, Shape]) -> dict[str, Any]:
    """One JSON Schema for an event as ``{"type": ..., "properties": ...}``."""
    return {
        "$schema": DRAFT,
        "title": "What this application tracks",
        "type": "object",
        "properties": {"type": {"enum": list(found)}, "properties": {"type": "object"}},
        "required": ["type", "properties"],
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}},
                "then": {"properties": {"properties": {"$ref": f"#/$defs/{name}"}}},
            }
            for name in found
        ],
        "$defs": {name: shape.schema() for name, shape in found.items()},
    }


def complaints(plan: Mapping[str, Any], seen: Iterable[Seen]) -> dict[str, int]:
    """What is not as planned, in sentences, and in how many events.

    Raises:
        ImportError: jsonschema is not installed.
        ValueError: The plan is no JSON Schema.
    """
    from jsonschema import Draft202012Validator  # of the extra ``plan``
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(plan)
    except SchemaError as error:
        raise ValueError(f"it is no JSON Schema: {error.message}") from None
    validator = Draft202012Validator(plan)
    found: Counter[str] = Counter()
    for entry in seen:
        event = {"type": entry.type, "properties": entry.properties}
        found.update({_in_words(entry, error) for error in validator.iter_errors(event)})
    return dict(sorted(found.items()))


def _in_words(entry: Seen, error: Any) -> str:
    """The place and the rule; the words of the library would repeat the value."""
    path = ".".join(str(part) for part in list(error.absolute_path)[1:])
    where = f"{entry.type}: {path or 'properties'}"
    if error.validator == "enum" and list(error.absolute_path) == ["type"]:
        return f"{entry.type}: is not in the plan"
    if error.validator == "type":
        wanted = error.validator_value
        names = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"{where}: must be {names}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"{where}: {', '.join(missing)} is missing"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return f"{where}: {', '.join(sorted(set(error.instance) - set(known)))} is not in the plan"
    return f"{where}: breaks the rule {error.validator}"
