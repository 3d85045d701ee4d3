"""The `loader_module` of bundles that are registered in MLflow.

`mlflow.pyfunc.load_model` and `mlflow models serve` import this module by the name in `MLmodel`
and call `_load_pyfunc`; our own service recognises the name and reads the bundle without MLflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.core.codec.rows import from_columns
from services.inference.runtimes.bundle import BundleRuntime

if TYPE_CHECKING:
    import pandas as pd

NAME = __name__


class BundleFunction:
    """A bundle as MLflow's python_function: data frame in, data frame of the outputs out."""

    def __init__(self, runtime: BundleRuntime) -> None:
        self._runtime = runtime

    def predict(self, frame: pd.DataFrame, params: dict[str, object] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One row of outputs per row of features; columns are found by name."""
        import pandas as pd  # noqa: PLC0415

        schema = self._runtime.metadata.schema
        columns = {name: frame[name].to_numpy() for name in schema.names}
        outputs = self._runtime.predict(self._runtime.transform(from_columns(columns, schema)), ())
        return pd.DataFrame({name: values for name, values in outputs.items() if values.ndim == 1})


def _load_pyfunc(data_path: str) -> BundleFunction:
    """MLflow's entry point; `data_path` is the bundle's directory."""
    return BundleFunction(BundleRuntime.read(Path(data_path)))
