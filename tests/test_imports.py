"""Imports go one way, and each outside package is known in its own layer only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tempcons"

# A module may import what has a lower number, and its own package. Commands (__main__) stand on top.
LAYERS = {
    "tempcons": 0,
    "tempcons.check": 1,
    "tempcons.cli": 2,
    "tempcons.progress": 2,
    "tempcons.resolvers": 2,
    "tempcons.store": 2,
    "tempcons.muon": 2,
    "tempcons.media": 3,
    "tempcons.geometry": 3,
    "tempcons.models": 4,
    "tempcons.losses": 4,
    "tempcons.metrics": 4,
    "tempcons.types": 5,
    "tempcons.weights": 6,
    "tempcons.runtime": 6,
    "tempcons.edits": 7,
    "tempcons.family": 7,
    "tempcons.training": 8,
    "tempcons.baselines": 9,
    "tempcons.stages": 10,
    "tempcons.schema": 11,
    "tempcons.opening": 12,
    "tempcons.side_process": 12,
    "tempcons.pipeline": 13,
    "tempcons.forecast": 14,
    "tempcons.sweep": 15,
}
COMMAND = 16


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything a file imports, wherever in the file."""
    package = (
        module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield (full if is_module(full) else origin), node.lineno


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def layer_name(module: str) -> str:
    """The longest entry of the list that the module belongs to."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in LAYERS and (length > 1 or len(parts) == 1):
            return ".".join(parts[:length])
    raise KeyError(f"{module} has no layer; add it to the list, where it belongs")


def rank(module: str) -> int:
    return COMMAND if module.endswith(".__main__") else LAYERS[layer_name(module)]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def sources_using(*packages: str) -> set[str]:
    """Modules that import one of the outside packages, as layers or modules."""
    return {
        module_name(path)
        for path in [*modules(), ROOT / "train.py"]
        for name, _ in imports(path)
        if name.split(".")[0] in packages
    }


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_imports_go_one_way(path):
    own = module_name(path)
    for name, line in imports(path):
        if name.split(".")[0] != "tempcons":
            continue
        same_package = layer_name(own) == layer_name(name) and "." in own
        assert same_package or rank(name) < rank(own), f"{own}:{line} must not import {name}"


def test_the_layers_would_catch_a_wrong_import():
    assert rank("tempcons.losses.masks") == rank("tempcons.models.flow")  # neither imports the other
    assert rank("tempcons.training.fit") < rank("tempcons.stages.clip") < rank("tempcons.pipeline")
    found = {name for name, _ in imports(PACKAGE / "pipeline.py")}
    assert {"tempcons.stages.align", "tempcons.schema"} <= found  # "from package import module" is seen


def test_stages_do_not_run_each_other():
    for path in (PACKAGE / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tempcons.stages."):
                assert "run" not in [alias.name for alias in node.names], f"{path.name} runs {node.module}"


def test_only_command_line_schema_pipeline_and_sweep_know_hydra():
    users = {m for m in sources_using("hydra", "omegaconf") if not m.startswith("tempcons.sweep")}
    assert users <= {"tempcons.cli", "tempcons.schema", "tempcons.resolvers", "tempcons.pipeline", "train"}


def test_only_training_knows_lightning():
    users = sources_using("pytorch_lightning", "lightning", "lightning_fabric")
    assert {layer_name(m) for m in users} <= {"tempcons.training"}


def test_only_the_logger_knows_wandb():
    assert sources_using("wandb") == {"tempcons.training.logging"}


def test_only_media_knows_video_files():
    assert {layer_name(m) for m in sources_using("av", "decord")} == {"tempcons.media"}


def attribute_uses(path: Path, owner: str, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    ]


def test_torch_load_only_where_it_is_safe():
    users = [module_name(p) for p in modules() if attribute_uses(p, "torch", "load")]
    assert users == ["tempcons.weights.load"] or users == []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"{module_name(path)}:{node.lineno}"


def test_train_py_is_short():
    assert len((ROOT / "train.py").read_text().splitlines()) <= 40


def test_no_module_is_called_utils():
    assert [p for p in modules() if p.stem in ("utils", "util", "helpers", "misc")] == []


def test_checking_the_command_line_does_not_wait_for_torch():
    code = "import sys, tempcons.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
