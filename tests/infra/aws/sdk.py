"""What the AWS SDK says of its resources, read from its source: importing it would take ten seconds."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(str(find_spec("pulumi_aws").origin)).parent


@cache
def _classes(path: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}


def _properties(definition: ast.ClassDef) -> dict[str, str]:
    """Property by the schema's name → its annotation."""
    found = {}
    for method in definition.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        for decorator in method.decorator_list:
            if ast.unparse(decorator).startswith("pulumi.getter"):
                named = decorator.keywords if isinstance(decorator, ast.Call) else []
                name = named[0].value.value if named else method.name
                found[str(name)] = ast.unparse(method.returns) if method.returns else ""
    return found


def _required(definition: ast.ClassDef) -> set[str]:
    """Python names of the constructor's parameters without a default."""
    init = next(each for each in definition.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    keyword = [
        each.arg for each, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if default is None
    ]
    positional = init.args.args[1 : len(init.args.args) - len(init.args.defaults)]
    return {*keyword, *(each.arg for each in positional)} - {"__self__"}


@cache
def _resource(token: str) -> tuple[Path, ast.ClassDef, ast.ClassDef]:
    """Folder, class of the inputs, class of the resource."""
    module = token.split(":")[1].partition("/")[0]
    folder = ROOT / module
    for path in folder.glob("*.py"):
        if f"'{token}'" in path.read_text():
            classes = _classes(path)
            name = token.rpartition(":")[2]
            inputs = next(
                each for key, each in classes.items() if key.endswith(("Args", "InitArgs")) and not key.startswith("_")
            )
            return folder, inputs, classes[name]
    raise AssertionError(f"{token}: the SDK has no such type")


def problems(token: str, inputs: dict[str, Any]) -> list[str]:
    """Inputs of a resource that the SDK does not know, or that it asks for and that are missing."""
    folder, args, resource = _resource(token)
    return _problems(folder, args, inputs, token.rpartition(":")[2], extra=set(_properties(resource)))


def _problems(
    folder: Path, args: ast.ClassDef, values: dict[str, Any], where: str, extra: set[str] = frozenset()
) -> list[str]:
    known = _properties(args)
    given = {name: value for name, value in values.items() if value is not None}
    found = [f"{where}.{name}: no such input" for name in given if name not in known]
    found += [
        f"{where}.{name}: no such property" for name, value in values.items() if value is None and name not in extra
    ]
    snake = {re.sub(r"([A-Z])", lambda upper: f"_{upper.group(1).lower()}", name): name for name in known}
    found += [
        f"{where}.{snake.get(name, name)}: missing" for name in _required(args) if snake.get(name, name) not in given
    ]
    for name, value in given.items():
        nested = re.search(r"'?(\w+Args)'?[\]'\"]", known.get(name, ""))
        definition = _classes(folder / "_inputs.py").get(nested.group(1)) if nested else None
        for at, each in enumerate(value if isinstance(value, list) else [value]):
            if definition is not None and isinstance(each, dict):
                found += _problems(folder, definition, each, f"{where}.{name}[{at}]")
    return found
