"""The library's rooms: who imports whom, how long a file may be, and what must be there before something can be imported."""

import ast
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from clones import REFERENCE

from cifar_lib import ROOT
from cifar_lib.records import code

LIBRARY = ROOT / code.LIBRARY
CORE = {"model", "data", "timer"}
MAY_IMPORT = {  # themselves, and:
    "cifar_lib": set(),
    "records": set(),
    "core": {"records"},
    "training": {"core", "records"},
    "engines": {"core", "records"},
    "benchmark": {"core", "records", "training", "engines"},
    "analysis": {"records"},
    "report": {"analysis", "records"},
    "notebook": {"records"},
}
FILES = sorted(LIBRARY.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def room_of(file: Path) -> str:
    """The room that a file of the library lies in; files of the core lie in none, and the package itself is its own."""
    first = file.relative_to(LIBRARY).parts[0].removesuffix(".py")
    return {"__init__": "cifar_lib", **dict.fromkeys(CORE, "core")}.get(first, first)


def forbidden(room: str, source: str) -> list[str]:
    """What a file of this room imports and may not."""
    allowed = MAY_IMPORT[room] | {room, "cifar_lib"}
    relative = [f"{'.' * node.level}{node.module or ''}" for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.ImportFrom) and node.level]  # not seen by `imported`, so not allowed
    return relative + [name for name in code.imported(source) if room_of(code.module_file(name)) not in allowed]


def in_fresh_process(source: str) -> str:
    """What this program prints."""
    process = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT,
                             env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert process.returncode == 0, process.stderr
    return process.stdout


# ---- the direction of imports


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(LIBRARY)))
def test_a_file_imports_only_what_its_room_may(file: Path) -> None:
    assert forbidden(room_of(file), file.read_text()) == []


def test_every_room_has_files_and_every_file_a_room() -> None:
    assert {room_of(file) for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("room", "source"),
    [("records", "from cifar_lib.model import ResNet9"), ("records", "from cifar_lib import data"),
     ("records", "def read():\n    import cifar_lib.analysis.statistics"), ("core", "from cifar_lib.engines import ENGINES"),
     ("training", "from cifar_lib.engines import export"), ("engines", "from cifar_lib.benchmark.process import Job"),
     ("benchmark", "from cifar_lib.analysis import statistics"), ("analysis", "from cifar_lib import data"),
     ("analysis", "from cifar_lib.report import style"), ("report", "from cifar_lib.model import ResNet9"),
     ("notebook", "from cifar_lib.report import style"), ("records", "from . import code"),
     ("report", "from ..analysis.statistics import interval")],
)
def test_an_import_in_the_wrong_direction_is_seen(room: str, source: str) -> None:
    assert len(forbidden(room, source)) == 1


# ---- sizes


@pytest.mark.parametrize("file", [*FILES, *LIBRARY.rglob("*.cpp")], ids=lambda file: str(file.relative_to(LIBRARY)))
def test_a_file_has_at_most_300_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300


# ---- text


def without_encoding(source: str) -> list[str]:
    """The calls of a file that read or write text as the locale has it."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {call: call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "") for call in calls}
    texts = [call for call in calls if names[call] in ("read_text", "write_text")
             or (names[call] in ("open", "fdopen") and not re.search("'[rwax]b'", ast.unparse(call)))
             or any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords)]
    return [ast.unparse(call) for call in texts if not any(keyword.arg == "encoding" for keyword in call.keywords)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(LIBRARY)))
def test_a_file_reads_and_writes_text_as_utf_8(file: Path) -> None:
    allowed = ("tarfile.open(", "urllib.")
    assert [call for call in without_encoding(file.read_text(encoding="utf-8")) if not call.startswith(allowed)] == []


@pytest.mark.parametrize("call", ["open(path)", "path.open('w')", "path.read_text()", "subprocess.run(command, text=True)"])
def test_text_in_the_encoding_of_the_locale_is_seen(call: str) -> None:
    assert len(without_encoding(call)) == 1


def test_what_a_command_says_is_utf_8_whatever_the_locale() -> None:
    process = subprocess.run([sys.executable, "-m", "cifar_lib.analysis.verdicts", REFERENCE], cwd=ROOT, capture_output=True,
                             env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert process.returncode == 0, process.stderr
    assert "–" in process.stdout.decode("utf-8")


# ---- what is loaded with what


@pytest.mark.parametrize(
    ("module", "without"),
    [("cifar_lib.records", ["torch", "pandas", "matplotlib", "scipy"]),
     ("cifar_lib.analysis.verdicts", ["torch", "pandas", "matplotlib", "scipy.stats"]),
     ("cifar_lib.notebook.parameters", ["pandas", "matplotlib", "scipy"]),
     ("cifar_lib.timer", ["pandas", "matplotlib", "scipy"]),
     ("cifar_lib.benchmark.process", ["pandas", "matplotlib", "scipy", "onnxruntime", "openvino"])],
)
def test_importing_a_module_does_not_load_what_it_need_not(module: str, without: list[str]) -> None:
    loaded = json.loads(in_fresh_process(f"import json, sys, {module}; print(json.dumps([*sys.modules]))"))
    assert module in loaded and [name for name in without if name in loaded] == []


@pytest.mark.measures
def test_verdicts_take_hardly_longer_than_importing_what_computes_them() -> None:
    """Processor time; a third of a second where it was measured, most of it NumPy's and SciPy's."""
    def seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process.returncode == 0, process.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(seconds("-m", "cifar_lib.analysis.verdicts", REFERENCE), seconds("-c", "import numpy, scipy.special, yaml"))
             for _ in range(5)]
    verdicts, libraries = map(min, zip(*pairs))
    assert verdicts < 1.6 * libraries, (verdicts, libraries)


# ---- where a library is missing

OPTIONAL = ["onnxruntime", "openvino", "onnx", "torchao", "mlperf_loadgen"]
WITHOUT_THEM = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n"  # None: an import of it fails


def imports_of(notebook: Path) -> str:
    """The import statements of a notebook's cells."""
    tree = ast.parse(code.notebook_code(notebook.read_text(encoding="utf-8")))
    return "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@pytest.mark.parametrize("name", OPTIONAL)
def test_libraries_are_missing_in_the_tests_of_that(name: str) -> None:
    in_fresh_process(f"{WITHOUT_THEM}try:\n    import {name}\nexcept ImportError:\n    sys.exit(0)\nsys.exit(1)")


def test_every_notebook_and_every_module_is_imported_where_engines_are_missing() -> None:
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
             for file in FILES if file.stem != "__main__"]  # which would run
    source = "\n".join([WITHOUT_THEM, *map(imports_of, NOTEBOOKS), *(f"import {name}" for name in names)])
    assert len(NOTEBOOKS) >= 6 and {"cifar_lib.engines.onnx", "cifar_lib.report.latency"} <= set(names)
    assert in_fresh_process(source) == ""
