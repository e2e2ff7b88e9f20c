"""The notebooks as people meet them: clean in git, self-describing, strict about parameters, and whole as a line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill
import pytest

from cifar_lib import ROOT, InputError, records, verdicts
from cifar_lib.recipe import RECIPES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN = f"test-{os.getpid()}"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_papermill(name: str, folder: Path, *parameters: str) -> subprocess.CompletedProcess:
    """Run a notebook by hand from a strange folder, with stand-in data; parameters are name=value, the value being YAML."""
    arguments = [argument for parameter in parameters for argument in ("-y", parameter.replace("=", ": "))]
    return subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", str(ROOT / "notebooks" / f"{name}.ipynb"), f"{name}.ipynb",
         *arguments],
        cwd=folder, env={**os.environ, "CIFAR10_DIR": "stand-in"}, capture_output=True, text=True,
    )


def test_committed_notebooks_have_no_outputs(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_the_check_follows_the_parameters_and_accepts_the_defaults(notebook: nbformat.NotebookNode) -> None:
    parameters, check, *rest = code_cells(notebook)
    assert "parameters" in parameters.metadata.tags
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in rest)
    namespace: dict[str, object] = {}
    exec(parameters.source, namespace)
    exec(check.source, namespace)
    assert set(namespace["parameters"]) == set(namespace["__annotations__"])


def test_every_number_has_a_range_and_the_range_is_checked(notebook: nbformat.NotebookNode) -> None:
    parameters, check, *_ = code_cells(notebook)
    defaults: dict[str, object] = {}
    exec(parameters.source, defaults)
    for name in [name for name, kind in defaults["__annotations__"].items() if kind is int]:
        with pytest.raises(InputError, match=f"^{name} must be between"):
            exec(check.source, {**defaults, name: -1})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_lists_every_parameter_with_type_and_meaning(path: Path) -> None:
    namespace: dict[str, object] = {}
    exec(code_cells(nbformat.read(path, as_version=4))[0].source, namespace)
    listed = papermill.inspect_notebook(path)
    assert set(listed) == set(namespace["__annotations__"])
    for name, entry in listed.items():
        assert entry["inferred_type_name"] == namespace["__annotations__"][name].__name__
        assert "(" in entry["help"], f"{name}: the help names no range or choice"


@pytest.mark.parametrize(
    ("name", "parameter", "sentence"),
    [
        ("1_train", "epohcs=3", "unknown parameter epohcs: did you mean epochs?"),
        ("1_train", "epochs=0", "epochs must be between 1 and 1,000, not 0."),
        ("3_latency", "device=tpu", "device must be one of 'auto', 'cpu', 'cuda', not 'tpu'."),
        ("5_report", "run=nowhere", "there is no run 'nowhere' under results/"),
    ],
)
def test_a_wrong_parameter_stops_the_run_with_one_sentence(tmp_path: Path, name: str, parameter: str, sentence: str) -> None:
    before = sorted((ROOT / "results").rglob("record.json"))
    process = run_papermill(name, tmp_path, parameter)
    assert process.returncode != 0
    assert process.stderr.strip().splitlines()[-1].startswith(f"InputError: {sentence}")
    assert sorted((ROOT / "results").rglob("record.json")) == before


@pytest.fixture
def own_run() -> Iterator[str]:
    yield RUN
    for room in ("results", "figures"):
        shutil.rmtree(ROOT / room / RUN, ignore_errors=True)


def test_the_whole_line_runs_by_hand_on_stand_in_data_and_says_so(tmp_path: Path, own_run: str) -> None:
    for name, *parameters in (
        ("1_train", "epochs=1", "train_images=256", "test_images=100", "width=4"),
        ("2_export", f"weights_from={own_run}", "test_images=200"),
        ("3_latency", "images=100", "warmup=5", "threads=1", "engines=[torchscript,torchscript-cpp]"),
        ("4_half_precision", "images=100", "warmup=5", "test_images=100", "largest_batch=2", "threads=1",
         "engines=[onnxruntime]", "precisions=[float32,int8]"),
        ("ablation", "parts=[muon]", "epochs=1", "train_images=256", "held_out=100", "width=4"),
        ("5_report",),
    ):
        process = run_papermill(name, tmp_path, f"run={own_run}", *parameters)
        assert process.returncode == 0, process.stderr[-2000:]
        assert "Stand-in data" in (tmp_path / f"{name}.ipynb").read_text()
    written = json.loads((ROOT / "results" / own_run / "verdicts.json").read_text())["verdicts"]
    kept = {row["id"]: row["verdict"] for row in written}
    assert {kept[claim] for claim in ("accuracy-above-94", "accuracy-five-runs", "exported-accuracy")} == {verdicts.NOT_RUN}
    assert kept["network-size"] == verdicts.NOT_REPRODUCED  # it has width 4
    training = records.read(records.step_folder(own_run, "train/seed0"))
    assert training["measurements"]["recipe"] == asdict(RECIPES["fast"])
    assert records.read(records.step_folder(own_run, "latency"))["data"]["dataset"] == "stand-in"
    ablation = records.read(records.step_folder(own_run, "ablation"))["measurements"]["trainings"]
    assert [(row["recipe"], row["without"]) for row in ablation] == [("fast", []), ("fast", ["muon"]), ("seed", [])]
    assert len({row["accuracy"] for row in ablation}) > 1  # different trainings, not one thrice
    assert [path.name for path in (ROOT / "results").glob(f"{own_run}*")] == [own_run]
