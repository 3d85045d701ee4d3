"""Edits of `Pulumi.<stack>.yaml` that touch nothing but a model's traffic: comments, order and spelling stay.

A YAML library that writes documents gives them its own layout. Here the parser only says where the weights stand, and
the text is changed there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = "slipway:models"


def model_of(text: str, model: str, where: str) -> dict[str, Any]:
    """What the file says of a model; `where` names the file in errors."""
    document = _loaded(text, where)
    models = (document.get("config") or {}).get(MODELS) or {}
    if model not in models:
        known = ", ".join(sorted(models)) or "none"
        raise StepError(f"{model}: not in {where} → one of: {known} → correct the name, or add the model there")
    found = models[model]
    if not isinstance(found, dict) or not isinstance(found.get("traffic"), dict):
        raise StepError(f"{where}: {MODELS}.{model} has no traffic map → it has one → correct the file")
    return found


def with_traffic(text: str, model: str, traffic: Mapping[str, int], where: str) -> str:
    """The text with that traffic; weights of releases that it does not name become 0."""
    before = model_of(text, model, where)
    wanted = {**dict.fromkeys(before["traffic"], 0), **traffic}
    node = _node(text, ("config", MODELS, model, "traffic"), where)
    edits = list(_edits(text, node, wanted))
    edited = text
    for start, end, replacement in sorted(edits, reverse=True):
        edited = edited[:start] + replacement + edited[end:]
    _verify(text, edited, model, wanted, where)
    return edited


def _edits(text: str, node: yaml.MappingNode, wanted: Mapping[str, int]) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of what has to change."""
    there = set()
    for key, value in node.value:
        there.add(key.value)
        if value.value != str(wanted[key.value]):
            yield value.start_mark.index, value.end_mark.index, str(wanted[key.value])
    new = [(release, weight) for release, weight in wanted.items() if release not in there]
    if not new:
        return
    last_key, last_value = node.value[-1]
    if node.flow_style:
        at = last_value.end_mark.index
        yield at, at, "".join(f", {release}: {weight}" for release, weight in new)
        return
    # After the line of the last entry, its comment included.
    newline = text.find("\n", last_value.end_mark.index)
    at = len(text) if newline < 0 else newline
    indent = " " * last_key.start_mark.column
    yield at, at, "".join(f"\n{indent}{release}: {weight}" for release, weight in new)


def _verify(text: str, edited: str, model: str, wanted: Mapping[str, int], where: str) -> None:
    """The edit did what it should and nothing else."""
    before = _loaded(text, where)
    config, models = before["config"], before["config"][MODELS]
    # Along the path only: what an anchor shares would change in both places, and here it must not.
    models = {**models, model: {**models[model], "traffic": dict(wanted)}}
    if {**before, "config": {**config, MODELS: models}} != _loaded(edited, where):
        raise StepError(
            f"{where}: {MODELS}.{model}.traffic is written in a way that cannot be edited in place (an anchor, a merge "
            "key) → a plain map of release to percent → write it as `traffic: { v1: 90, v2: 10 }`"
        )


def _node(text: str, path: tuple[str, ...], where: str) -> yaml.MappingNode:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in path:
        values = [] if not isinstance(node, yaml.MappingNode) else [v for k, v in node.value if k.value == key]
        if not values:
            raise StepError(f"{where}: {'.'.join(path)} is not written there → a plain map → write it out")
        node = values[0]
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise StepError(f"{where}: {'.'.join(path)} is no map → release to percent → correct the file")
    return node


def _loaded(text: str, where: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StepError(f"{where}: not YAML: {error} → correct it") from error
    if not isinstance(document, dict):
        raise StepError(f"{where}: no map at its top → config: … → correct the file")
    return document
