"""Documents that others wrote, read and checked: what is wrong is said with its place in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.inference.core.errors import InvalidArtifact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Model = TypeVar("Model", bound=BaseModel)


def read_document(
    path: Path, model: type[Model], parse: Callable[[bytes], Any], rule: str, remedy: str, *, name: str | None = None
) -> Model:
    """A file's content by its model; `InvalidArtifact` says what is wrong with it first, by rule and remedy."""
    try:
        return model.model_validate(parse(path.read_bytes()))
    except (OSError, yaml.YAMLError, ValueError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise InvalidArtifact(f"{name or path.name}: {problem}", rule, remedy) from error


def first_problem(error: ValidationError) -> str:
    """Where it is, by its keys, and what it is."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {message}" if first["loc"] else message
