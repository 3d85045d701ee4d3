from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import infra
import policies.rules

ROOT = Path(__file__).resolve().parents[2]

INFRA = sorted(ROOT.joinpath("infra").rglob("*.py"))

READS_PULUMI_CONFIG = {"infra/config/loader.py"}
"""The loader alone: everything else gets typed values."""

READS_A_TOKEN = {"infra/registry/client.py"}
"""Who runs the program is no part of a stack, as with the credentials that Pulumi's providers find themselves."""

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def modules(package):
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def relative(path):
    return path.relative_to(ROOT).as_posix()


def test_the_layers_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_program_has_no_effect():
    # In a process of its own: here everything is imported already.
    names = [name for name in (*modules(infra), *modules(policies.rules)) if not name.endswith("local.bootstrap")]
    script = "\n".join(
        [
            "import importlib, builtins, socket",
            "import pulumi, boto3, httpx",
            "def refuse(*args, **kwargs): raise AssertionError('an import asked for configuration or the network')",
            "pulumi.Config = pulumi.get_stack = boto3.client = httpx.Client = socket.socket.connect = refuse",
            *(f"importlib.import_module({name!r})" for name in names),
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", INFRA, ids=relative)
def test_only_the_loader_reads_pulumis_configuration_and_nothing_reads_the_environment(path):
    text = path.read_text()
    tree = ast.parse(text)
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    config = {name for name in attributes if name.startswith(("pulumi.Config", "pulumi.runtime"))}
    assert not config or relative(path) in READS_PULUMI_CONFIG, f"{config}: pass the value in"
    environment = {name for name in attributes if name.startswith(("os.environ", "os.getenv"))}
    assert not environment or relative(path) in READS_A_TOKEN, (
        f"{environment}: a stack is what its file says, not what a shell had set"
    )


@pytest.mark.parametrize("path", INFRA, ids=relative)
def test_modules_and_functions_can_be_read_in_one_sitting(path):
    text = path.read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_no_module_is_a_drawer():
    drawers = {"utils", "helpers", "manager", "common", "misc"}
    assert not [relative(path) for path in INFRA if path.stem in drawers]


def test_the_program_itself_is_thirty_lines():
    assert len(ROOT.joinpath("stacks/__main__.py").read_text().splitlines()) <= 30


def test_what_runs_in_the_cluster_is_left_out_of_the_program():
    importers = [relative(path) for path in INFRA if "import bootstrap" in path.read_text()]
    assert not importers, "the bootstrap script is a file to mount, its imports exist in the MLflow image only"
