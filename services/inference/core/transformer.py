"""The declarative feature transformer: data, not code, so reading one can run nothing.

`transformer.json` lists the input columns in order. Per numeric column, in this order:
impute (null → `impute`), clip to `clip` (in the column's own units), scale to
(value - `mean`) / `scale`. A category column becomes one 0/1 column per category.
The output is float32 [rows, width]: numeric columns first, then the categories.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from services.inference.core.document import read_document
from services.inference.core.errors import InvalidValue
from services.inference.core.schema import Feature, Kind
from services.inference.core.types import Array, Rows

if TYPE_CHECKING:
    from pathlib import Path


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))


class NumericColumn(_Strict):
    """A number: imputed, clipped, scaled; a step left out changes nothing."""

    name: str = Field(min_length=1)
    kind: Literal["numeric"] = "numeric"
    impute: FiniteFloat | None = None
    """Stands for null, as training chose it; without it null is refused."""
    clip: tuple[FiniteFloat, FiniteFloat] | None = None
    """Smallest and largest value, in the column's own units."""
    mean: FiniteFloat = 0.0
    scale: Annotated[FiniteFloat, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.clip and self.clip[0] > self.clip[1]:
            raise ValueError(f"clip of {self.name!r} is {self.clip} → the smaller bound comes first → swap them")
        return self


class CategoryColumn(_Strict):
    """A text of a known set: one output column per category."""

    name: str = Field(min_length=1)
    kind: Literal["category"] = "category"
    categories: tuple[str, ...] = Field(min_length=1)
    impute: str | None = None
    unknown: Literal["refuse", "zeros"] = "refuse"
    """What a category that training did not see does: an error for the caller, or zeros in every column."""


class Transformer(_Strict):
    """A whole `transformer.json`."""

    format: Literal["slipway-transformer/1"] = "slipway-transformer/1"
    columns: tuple[Annotated[NumericColumn | CategoryColumn, Field(discriminator="kind")], ...] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file; `InvalidArtifact` names the first thing wrong with it."""
        rule, remedy = "the transformer is slipway-transformer/1 JSON", "write it with the model again"
        return read_document(path, cls, json.loads, rule, remedy)

    def dump(self) -> str:
        """The file's text: same transformer, same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    @property
    def features(self) -> tuple[Feature, ...]:
        """Input columns as features of a schema."""
        return tuple(
            Feature(
                name=c.name,
                kind=Kind.TEXT if isinstance(c, CategoryColumn) else Kind.FLOAT,
                nullable=c.impute is not None,
            )
            for c in self.columns
        )

    @cached_property
    def _numeric(self) -> tuple[NumericColumn, ...]:
        return tuple(c for c in self.columns if isinstance(c, NumericColumn))

    @cached_property
    def _categories(self) -> tuple[CategoryColumn, ...]:
        return tuple(c for c in self.columns if isinstance(c, CategoryColumn))

    @cached_property
    def _vectors(self) -> tuple[Array, Array, Array, Array, Array]:
        """Impute, low, high, mean, scale of the numeric columns, float64 [columns]."""
        columns = self._numeric
        return (
            np.array([np.nan if c.impute is None else c.impute for c in columns]),
            np.array([c.clip[0] if c.clip else -np.inf for c in columns]),
            np.array([c.clip[1] if c.clip else np.inf for c in columns]),
            np.array([c.mean for c in columns]),
            np.array([c.scale for c in columns]),
        )

    def example(self) -> Rows:
        """One row that this transformer accepts: the imputed or mean numbers, the first categories."""
        numbers = [[c.mean if c.impute is None else c.impute for c in self._numeric]]
        block = np.array(numbers, dtype=np.float64).reshape(1, -1)
        if not self._categories:
            return Rows(block)
        texts = np.empty((1, len(self._categories)), dtype=object)
        texts[0, :] = [c.categories[0] for c in self._categories]
        return Rows(block, texts)

    def apply(self, rows: Rows) -> Rows:
        """Feature rows → model input, float32 [rows, width]."""
        impute, low, high, mean, scale = self._vectors
        numbers = rows.numbers
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, impute, numbers)
        scaled = np.clip(numbers, low, high)
        scaled -= mean
        scaled /= scale
        if not self._categories:
            return Rows(scaled.astype(np.float32))
        hot = [self._one_hot(column, rows.texts[:, at]) for at, column in enumerate(self._categories)]
        return Rows(np.concatenate([scaled, *hot], axis=1).astype(np.float32))

    @staticmethod
    def _one_hot(column: CategoryColumn, values: Array) -> Array:
        index = {category: at for at, category in enumerate(column.categories)}
        hot = np.zeros((len(values), len(index)))
        for row, given in enumerate(values):
            value = column.impute if given is None else given
            if value in index:
                hot[row, index[value]] = 1.0
            elif column.unknown == "refuse":
                raise InvalidValue(
                    f"feature {column.name!r} is {str(value)[:40]!r} in row {row}",
                    f"it is one of the {len(index)} categories of training",
                    f"send one of {', '.join(column.categories[:8])}",
                    field=column.name,
                )
        return hot
