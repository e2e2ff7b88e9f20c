"""The layout: which subpackage imports which, how long files are, and which libraries an import needs."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clones import REFERENCE

from cifar_bench.records import code
from cifar_lib import ROOT

BENCH = "cifar_bench"
MAY_IMPORT = {  # themselves, cifar_lib, and of cifar_bench:
    "cifar_lib": set(),
    BENCH: set(),
    "records": {BENCH},
    "engines": {BENCH, "records"},
    "timing": {BENCH, "records", "engines"},
    "analysis": {BENCH, "records"},
    "report": {BENCH, "records", "analysis"},
    "notebook": {BENCH, "records"},
}
FILES = sorted(file for package in code.PACKAGES for file in (ROOT / package).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def subpackage_of(file: Path) -> str:
    """The subpackage of cifar_bench that a file is in; cifar_lib counts as one."""
    package, *inner = file.relative_to(ROOT).parts
    return inner[0] if package == BENCH and len(inner) > 1 else package


def forbidden(subpackage: str, source: str) -> list[str]:
    """The imports in a file of this subpackage that are not allowed."""
    allowed = MAY_IMPORT[subpackage] | {subpackage, "cifar_lib"}
    relative = [f"{'.' * node.level}{node.module or ''}" for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.ImportFrom) and node.level]  # which `imported` does not see
    return relative + [name for name in code.imported(source) if subpackage_of(code.module_file(name)) not in allowed]


def in_fresh_process(source: str) -> str:
    """The output of this program."""
    process = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT,
                             env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert process.returncode == 0, process.stderr
    return process.stdout


# ---- the direction of imports


def test_imports_go_one_way() -> None:
    assert {subpackage_of(file) for file in FILES} == set(MAY_IMPORT)
    wrong = {str(file): names for file in FILES if (names := forbidden(subpackage_of(file), file.read_text(encoding="utf-8")))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("subpackage", "source"),
    [("cifar_lib", "def f():\n    import cifar_bench.records"), ("engines", "from cifar_bench.timing.process import Job"),
     ("records", "from . import code")],
)
def test_an_import_in_the_wrong_direction_is_found(subpackage: str, source: str) -> None:
    assert len(forbidden(subpackage, source)) == 1


def test_cifar_lib_is_imported_with_torch_numpy_pooch_and_tqdm_only() -> None:
    own = [file for file in FILES if subpackage_of(file) == "cifar_lib"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in own]
    modules = {name.split(".")[0] for tree in trees for node in tree.body for name in (
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else
        [node.module] if isinstance(node, ast.ImportFrom) else [])}
    assert modules - set(sys.stdlib_module_names) <= {"cifar_lib", "torch", "numpy", "pooch", "tqdm"}


def test_a_notebooks_first_import_drops_the_variables_that_tune_libraries() -> None:
    for notebook in NOTEBOOKS:
        tree = ast.parse(code.notebook_code(notebook.read_text(encoding="utf-8")))
        first = next(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
        assert isinstance(first, ast.ImportFrom) and first.module.startswith(BENCH), notebook


# ---- text


def test_no_file_is_longer_than_300_lines() -> None:
    sources = [*FILES, *(ROOT / BENCH).rglob("*.cpp")]
    assert [file for file in sources if len(file.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_ruff_finds_nothing() -> None:
    """Its rules are in pyproject.toml; one demands an encoding wherever text is read or written."""
    process = subprocess.run([sys.executable, "-m", "ruff", "check", ROOT], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout


def test_the_output_of_a_command_is_utf_8_whatever_the_locale() -> None:
    process = subprocess.run([sys.executable, "-m", "cifar_bench.analysis.verdicts", REFERENCE], cwd=ROOT, capture_output=True,
                             env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert "–" in process.stdout.decode("utf-8"), process.stderr


# ---- what is loaded with what


@pytest.mark.parametrize(
    ("module", "without"),
    [("cifar_bench.records", ["torch", "pandas", "matplotlib", "scipy"]),
     ("cifar_bench.analysis.verdicts", ["torch", "pandas", "matplotlib", "scipy.stats"]),
     ("cifar_bench.notebook.parameters", ["pandas", "matplotlib", "scipy"]),
     ("cifar_lib.timer", ["pandas", "matplotlib", "scipy"]),
     ("cifar_bench.timing.process", ["pandas", "matplotlib", "scipy", "onnxruntime", "openvino"])],
)
def test_importing_a_module_does_not_load_what_it_does_not_need(module: str, without: list[str]) -> None:
    loaded = json.loads(in_fresh_process(f"import json, sys, {module}; print(json.dumps([*sys.modules]))"))
    assert module in loaded and [name for name in without if name in loaded] == []


# ---- where a library is missing

OPTIONAL = ["onnxruntime", "openvino", "onnx", "executorch", "torchao", "mlperf_loadgen"]
WITHOUT_THEM = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n"  # None: an import of it fails


def imports_of(notebook: Path) -> str:
    """The import statements of a notebook's cells."""
    tree = ast.parse(code.notebook_code(notebook.read_text(encoding="utf-8")))
    return "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def test_every_notebook_and_module_can_be_imported_without_the_engines_libraries() -> None:
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
             for file in FILES if file.stem != "__main__"]  # it would run
    source = "\n".join([WITHOUT_THEM, *map(imports_of, NOTEBOOKS), *(f"import {name}" for name in names)])
    assert len(NOTEBOOKS) >= 6 and {"cifar_bench.engines.onnx", "cifar_bench.report.latency"} <= set(names)
    assert in_fresh_process(source) == ""
