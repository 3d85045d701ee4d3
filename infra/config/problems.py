"""Renders pydantic's errors as `slipway:key.path: value → rule → remedy`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from infra.config.base import PATTERNS, PROJECT, RULE_ERROR

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

JsonSchema: TypeAlias = Mapping[str, Any]

LONGEST_VALUE = 80
"""Characters of a value that an error repeats; more would bury the rule."""

UNION_ERRORS = ("union_tag_invalid", "union_tag_not_found")


def render(error: ValidationError, schema: JsonSchema) -> list[str]:
    """One line for each error, in the order of the file's keys. `schema` is that of the validated model."""
    return sorted(_line(details, schema) for details in error.errors(include_url=False))


def _line(details: ErrorDetails, schema: JsonSchema) -> str:
    keys, known = walk(schema, details["loc"])
    value = details["input"]
    if details["type"] in UNION_ERRORS:
        # pydantic tells of the map; what is wrong is the key in it that says which one it is.
        keys, value = (*keys, _discriminator(details)), _context(details).get("tag")
    if details["type"] == RULE_ERROR:
        context = details.get("ctx", {})
        rule, remedy = context["rule"], context["remedy"]
    elif details["type"] == "extra_forbidden":
        rule, remedy = "no such key", nearest(keys[-1], known)
    elif details["type"] in {"missing", "union_tag_not_found"}:
        return f"{dotted(keys)}: missing → required → add it"
    else:
        rule, remedy = _RULES.get(details["type"], _unnamed_rule)(details)
    return f"{dotted(keys)}: {shown(value)} → {rule} → {remedy}"


def dotted(keys: tuple[str, ...]) -> str:
    """The path as a person finds it in the stack file."""
    return f"{PROJECT}:" + ".".join(keys)


def shown(value: object) -> str:
    """A value as JSON, cut where it would bury the rule."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def nearest(key: str, known: tuple[str, ...]) -> str:
    """The remedy for an unknown key: the nearest one, or all there are."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"one of: {', '.join(sorted(known))}"


def walk(schema: JsonSchema, location: tuple[int | str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of an error's location, and the keys that are known where its last one stands.

    pydantic's location also holds what is not in the file, such as the tag of a union's member and
    `[key]` for an error in a key itself; following the schema tells them apart.
    """
    keys: list[str] = []
    known: tuple[str, ...] = ()
    node: JsonSchema | None = _resolve(schema, schema)
    for element in map(str, location):
        if element == "[key]":
            continue
        members = (node or {}).get("discriminator", {}).get("mapping", {})
        if element in members:
            node = _resolve(schema, {"$ref": members[element]})
            continue
        known = tuple((node or {}).get("properties", {}))
        keys.append(element)
        node = _child(schema, node, element)
    return tuple(keys), known


def _child(schema: JsonSchema, node: JsonSchema | None, key: str) -> JsonSchema | None:
    if node is None:
        return None
    named = node.get("properties", {}).get(key)
    rest = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), None)
    found = named or (rest if isinstance(rest, dict) else None) or node.get("items")
    return _resolve(schema, found) if found else None


def _resolve(schema: JsonSchema, node: JsonSchema) -> JsonSchema:
    if "$ref" in node:
        return _resolve(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    for member in node.get("anyOf", []):
        if member.get("type") != "null":
            return _resolve(schema, member)
    return node


def _context(details: ErrorDetails) -> dict[str, Any]:
    return details.get("ctx", {})


def _discriminator(details: ErrorDetails) -> str:
    return str(_context(details)["discriminator"]).strip("'")


def _alternatives(details: ErrorDetails) -> str:
    *others, last = str(_context(details)["expected_tags"]).split(", ")
    return f"{', '.join(others)} or {last}" if others else last


def _unnamed_rule(details: ErrorDetails) -> tuple[str, str]:
    return details["msg"][0].lower() + details["msg"][1:], "change the value"


def _list(_: ErrorDetails) -> tuple[str, str]:
    return "a list", "write its entries below it, each after a hyphen"


_RULES: dict[str, Callable[[ErrorDetails], tuple[str, str]]] = {
    "string_type": lambda _: ("text", "put it in quotes"),
    "int_type": lambda _: ("a whole number", "write it in digits, without quotes or fraction"),
    "bool_type": lambda _: ("true or false", "write it without quotes"),
    "float_type": lambda _: ("a number", "write it in digits, without quotes"),
    "tuple_type": _list,
    "list_type": _list,
    "greater_than": lambda details: (f"more than {_context(details)['gt']}", "raise it"),
    "dict_type": lambda _: ("a map of keys to values", "indent its keys below it"),
    "model_type": lambda _: ("a map of keys to values", "indent its keys below it"),
    "literal_error": lambda details: ("one of a fixed set", f"choose {_context(details)['expected']}"),
    "string_pattern_mismatch": lambda details: PATTERNS[_context(details)["pattern"]],
    "string_too_long": lambda details: (f"at most {_context(details)['max_length']} characters", "shorten it"),
    "too_short": lambda details: (f"at least {_context(details)['min_length']}", "add one"),
    "too_long": lambda details: (f"at most {_context(details)['max_length']}", "leave some out"),
    "greater_than_equal": lambda details: (f"at least {_context(details)['ge']}", "raise it"),
    "less_than": lambda details: (f"less than {_context(details)['lt']}", "lower it"),
    "less_than_equal": lambda details: (f"at most {_context(details)['le']}", "lower it"),
    "union_tag_invalid": lambda details: ("one of a fixed set", f"choose {_alternatives(details)}"),
}
"""Rule and remedy for the errors that pydantic itself raises."""
