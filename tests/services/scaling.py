"""Models that multiply by a number: which version has answered shows in every answer."""

import warnings

import torch
import yaml


def scaling_bundle(directory, factor):
    """Of tensors, and not small."""

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.tensor(float(factor)))
            self.register_buffer("ballast", torch.zeros(10_000_000))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    directory.mkdir(parents=True)
    save(Scale(), directory)
    tensor = {"datatype": "FP32", "shape": [-1, 2]}
    config = {
        "format": "slipway-bundle/1",
        "name": "scale",
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


def feature_bundle(directory, factor):
    """Of features, as a registry takes it: the sum of two times the number."""

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.tensor(float(factor)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(dim=1) * self.factor

    directory.mkdir()
    save(Scale(), directory)
    config = {"format": "slipway-bundle/1", "name": "scale", "required_features": ["a", "b"], "task": "regression"}
    (directory / "config.yaml").write_text(yaml.safe_dump({**config, "outputs": "values"}))
    (directory / "input_example.json").write_text('[{"a": 1, "b": 10}]')
    return directory


def save(module, directory):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        torch.jit.script(module.eval()).save(str(directory / "model.pt"))


def body(*values):
    """A request for one row of tensors or features."""
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": list(values)}]}
