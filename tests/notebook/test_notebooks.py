"""The notebooks are committed without outputs, strict about parameters, and run one after the other by hand."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill
import pytest
import torch
from clones import COMMITTED_RUNS, REFERENCE, clone, environment, measure_peaks_briefly, use_synthetic_data
from conftest import Refused
from IPython.core.interactiveshell import InteractiveShell
from papermill.translators import PythonTranslator
from records_made import run_notebook

from cifar_bench import records
from cifar_bench.analysis import rules
from cifar_bench.notebook.parameters import declared
from cifar_bench.records import code
from cifar_lib import ROOT, InputError, cifar10
from cifar_lib.training import recipes
from cifar_lib.training.recipes import RECIPES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMITTED = code.git("ls-files", "notebooks").splitlines()
RUN = "by-hand"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_papermill(name: str, folder: Path, *parameters: str, root: Path = ROOT, **environ: str) -> subprocess.CompletedProcess:
    """Run a notebook with papermill from `folder`; parameters are name=value, the value in YAML."""
    arguments = [argument for parameter in parameters for argument in ("-y", parameter.replace("=", ": "))]
    return subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", str(root / "notebooks" / f"{name}.ipynb"), f"{name}.ipynb",
         *arguments],
        cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True,
    )


@pytest.mark.skipif(not COMMITTED, reason="asks git what is committed")
@pytest.mark.parametrize("path", COMMITTED)
def test_committed_notebooks_have_no_outputs(path: str) -> None:
    """In git's index: a notebook that was run and saved may hold outputs on disk."""
    for cell in code_cells(nbformat.reads(code.git("show", f":{path}"), as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_the_check_follows_the_parameters_and_accepts_the_defaults(notebook: nbformat.NotebookNode) -> None:
    parameters, check, *rest = code_cells(notebook)
    assert "parameters" in parameters.metadata.tags
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in rest)
    namespace: dict[str, object] = {"In": ["", parameters.source]}  # as IPython keeps what was run
    exec(parameters.source, namespace)
    exec(check.source, namespace)
    assert set(namespace["parameters"]) == set(declared(parameters.source))


def test_every_number_has_a_range_and_the_range_is_checked(notebook: nbformat.NotebookNode) -> None:
    parameters, check, *_ = code_cells(notebook)
    defaults: dict[str, object] = {"In": [parameters.source]}
    exec(parameters.source, defaults)
    for name in [name for name, kind in declared(parameters.source).items() if kind is int]:
        with pytest.raises(InputError, match=f"^{name} must be between"):
            exec(check.source, {**defaults, name: -1})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_lists_every_parameter_with_type_and_meaning(path: Path) -> None:
    types = declared(code_cells(nbformat.read(path, as_version=4))[0].source)
    listed = papermill.inspect_notebook(path)
    assert set(listed) == set(types)
    for name, entry in listed.items():
        assert entry["inferred_type_name"] == types[name].__name__
        assert "(" in entry["help"], f"{name}: the help names no range or choice"


@pytest.mark.parametrize(
    ("name", "parameter", "sentence"),
    [
        ("1_train", {"epohcs": 3}, "unknown parameter epohcs: did you mean epochs?"),
        ("1_train", {"epochs": 0}, "epochs must be between 1 and 1,000, not 0."),
        ("3_latency", {"device": "tpu"}, "device must be one of 'auto', 'cpu', 'cuda', not 'tpu'."),
        ("3_latency", {"run": REFERENCE}, f"{REFERENCE} is a reference run of this project: choose another name"),
        ("4_half_precision", {"batch_engines": ["compile"]}, "batch_engines names 'compile', which is not among the engines."),
        ("6_report", {"run": "nowhere"}, "there is no run 'nowhere' under results/"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_sentence(
    name: str, parameter: dict[str, object], sentence: str, refused: Refused
) -> None:
    before = sorted((ROOT / "results").rglob("record.json"))
    first, *others = [cell.source for cell in code_cells(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4))]
    namespace: dict[str, object] = {"In": [""]}  # as IPython keeps what was run
    with refused(sentence):
        for cell in [first, PythonTranslator.codify(parameter), *others[:2]]:  # the check, and the cell after it
            namespace["In"].append(cell)
            exec(cell, namespace)
    assert sorted((ROOT / "results").rglob("record.json")) == before


def test_papermill_stops_at_a_wrong_parameter_with_one_sentence(tmp_path: Path) -> None:
    before = sorted((ROOT / "results").rglob("record.json"))
    process = run_papermill("1_train", tmp_path, "epohcs=3")
    assert process.returncode != 0
    assert process.stderr.strip().splitlines()[-1] == "InputError: unknown parameter epohcs: did you mean epochs?"
    assert sorted((ROOT / "results").rglob("record.json")) == before


def test_the_record_of_5_faster_holds_nothing_that_analysis_concludes() -> None:
    """A conclusion would be outdated when another seed is trained, or the code of `analysis` changes."""
    cells = [cell.source for cell in code_cells(nbformat.read(ROOT / "notebooks" / "5_faster.ipynb", as_version=4))]
    recording, = (number for number, cell in enumerate(cells) if "step.write(" in cell)
    imported = code.imported("\n".join(cells[:recording + 1]))
    assert [name for name in imported if name.startswith("cifar_bench.analysis")] == []


@pytest.mark.ci(seconds=123)
def test_a_run_by_hand_with_a_distilled_network_says_that_its_data_are_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = clone(tmp_path / "clone"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    use_synthetic_data(root, monkeypatch)
    measure_peaks_briefly(root)
    for name, *parameters in (
        ("1_train", "epochs=1", "train_images=256", "test_images=100", "width=4"),
        ("2_export", f"weights_from={RUN}", "test_images=200"),
        ("1_train", "epochs=1", "train_images=256", "test_images=100", "widths=[2,4,6,8]", f"teachers=[{RUN}/0]",
         "run=student"),
        ("2_export", "weights_from=student", "test_images=200", "run=student"),
        ("5_faster", "images=100", "warmup=5", "test_images=100", "threads=1", "repeats=0", "engines=[onnxruntime]",
         "precisions=[int8]", "networks=[student]"),
        ("6_report",),
    ):
        process = run_papermill(name, elsewhere, f"run={RUN}", *parameters, root=root,
                                **environment(root))
        assert process.returncode == 0, process.stderr[-2000:]
        assert "Synthetic data" in (elsewhere / f"{name}.ipynb").read_text()
    folder = root / "results" / RUN
    verdicts = {row["id"]: row["verdict"] for row in json.loads((folder / "verdicts.json").read_text())["verdicts"]}
    assert {verdicts[claim] for claim in ("accuracy-above-94", "accuracy-five-runs", "exported-accuracy")} == {rules.NOT_RUN}
    assert verdicts["network-size"] == rules.NOT_REPRODUCED  # it has width 4
    teacher, distilled = (json.loads((root / "results" / run / "train" / "seed0" / "record.json").read_text())["measurements"]
                          for run in (RUN, "student"))
    assert teacher["recipe"] == asdict(RECIPES["fast"]) and distilled["widths"] == [2, 4, 6, 8]
    assert distilled["teachers"] == [{"training": f"{RUN}/0", "weights_sha256": teacher["weights_sha256"]}]
    faster = json.loads((folder / "faster" / "record.json").read_text())["measurements"]
    assert {row["network"] for row in faster["rows"] if "runs" in row} == {"", "student"}
    assert sorted(path.name for path in elsewhere.iterdir()) == [
        f"{name}.ipynb" for name in ("1_train", "2_export", "5_faster", "6_report")]
    assert sorted(path.name for path in (root / "results").iterdir()) == [
        ".locks", *sorted([RUN, *COMMITTED_RUNS, "student"])]


def test_training_stops_at_a_loss_that_is_not_finite_and_resumes_from_the_last_checkpoint_of_the_same_code(
    home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    parameters = {"run": "lab", "width": 2, "epochs": 3, "batch_size": 100, "train_images": 200, "test_images": 100,
                  "mixed_precision": "off", "device": "cpu"}
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    InteractiveShell.instance()  # or `display` returns nothing that can be updated
    monkeypatch.setenv("CIFAR10_DIR", cifar10.SYNTHETIC)
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 100)
    monkeypatch.setattr(recipes, "schedule", lambda recipe, step, steps: 1.0 if step < 2 else math.nan)
    with refused("the loss of epoch 2 is nan"):
        run_notebook("1_train", parameters | {"threads": 2})
    kept, = (home / "results" / "lab" / "train" / "seed0").glob("checkpoint-*")
    assert "-0001-" in kept.name
    monkeypatch.setattr(recipes, "schedule", lambda recipe, step, steps: 1.0)
    for resumed_after in ([], [1]):  # by other code, then by the same with other threads
        with monkeypatch.context() as other:
            if not resumed_after:
                other.setattr(code, "training_digest", lambda: "other code")
            run_notebook("1_train", parameters | {"threads": 1})
        assert records.read(kept.parent)["measurements"]["resumed_after"] == resumed_after
    assert threads == [2, 1, 1]
