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
def _text(path: Path) -> str:
    return path.read_text()


@cache
def _class(path: Path, name: str) -> ast.ClassDef | None:
    """A class of a file. Cut out as text first: parsing all that EC2 has takes seconds."""
    found = re.search(rf"^class {name}\b.*?(?=^\S|\Z)", _text(path), re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    [definition] = ast.parse(found.group()).body
    assert isinstance(definition, ast.ClassDef)
    return definition


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
    module, name = token.split(":")[1].partition("/")[0], token.rpartition(":")[2]
    folder = ROOT / module
    path = folder / (re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() + ".py")
    if not path.exists() or f"'{token}'" not in _text(path):
        raise AssertionError(f"{token}: the SDK has no such type")
    inputs, resource = _class(path, f"{name}Args") or _class(path, f"{name}InitArgs"), _class(path, name)
    assert inputs is not None
    assert resource is not None
    return folder, inputs, resource


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
        definition = _class(folder / "_inputs.py", nested.group(1)) if nested else None
        for at, each in enumerate(value if isinstance(value, list) else [value]):
            if definition is not None and isinstance(each, dict):
                found += _problems(folder, definition, each, f"{where}.{name}[{at}]")
    return found
