"""`make report`: which steps run again, which runs it refuses to write, and that a user's configuration does not matter.

The steps themselves are replaced by a script.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import REFERENCE, MakeReport, clone, commit

from cifar_lib import ROOT

STEPS = ["1_train", "2_export", "3_latency", "4_half_precision", "5_faster", "6_report"]


@pytest.fixture(scope="module")
def make_report(tmp_path_factory: pytest.TempPathFactory) -> MakeReport:
    """In a clone of its own with a complete run, `done`; a test that changes something completes the run again."""
    folder = clone(tmp_path_factory.mktemp("made") / "clone")
    commit(folder)
    make_report = MakeReport(folder)
    assert steps_of_done(make_report) == STEPS
    return make_report


def steps_of_done(make_report: MakeReport, **environ: str) -> list[str]:
    """The steps that run to complete the run `done`."""
    steps, process = make_report("RUN=done", **environ)
    assert process.returncode == 0, process.stderr
    return steps


def change_a_parameter(folder: Path) -> None:
    path = folder / "profiles" / "smoke.yaml"
    plan = path.read_text()
    assert "export: {test_images: 1000}" in plan
    path.write_text(plan.replace("export: {test_images: 1000}", "export: {test_images: 900}"))


def change_a_module(folder: Path) -> None:
    path = folder / "cifar_bench" / "engines" / "export.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")


def test_a_complete_run_has_nothing_to_do_after_touching_files_and_changing_comments(make_report: MakeReport) -> None:
    for path in [*make_report.folder.glob("notebooks/*.ipynb"), *make_report.folder.glob("results/shipped/**/*.json")]:
        path.touch()
    module = make_report.folder / "cifar_bench" / "engines" / "export.py"
    module.write_text(module.read_text() + "# a comment\n")
    notebook = make_report.folder / "notebooks" / "1_train.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = ["# Another title"]
    notebook.write_text(json.dumps(content))
    assert steps_of_done(make_report) == []


@pytest.mark.parametrize("change", [change_a_parameter, change_a_module])
def test_a_step_that_failed_after_writing_its_record_is_not_run_again(
    make_report: MakeReport, change: Callable[[Path], None]
) -> None:
    change(make_report.folder)
    steps, process = make_report("RUN=done", FAILS_AFTER="2_export")
    assert process.returncode != 0 and "make plan" in process.stderr and steps[-1] == "2_export"
    assert sorted(steps_of_done(make_report)) == STEPS[2:]


def test_an_old_record_does_not_replace_the_one_of_a_step_that_failed(make_report: MakeReport) -> None:
    only_for_latency = make_report.folder / "cifar_bench" / "timing" / "loadgen.py"
    only_for_latency.write_text(only_for_latency.read_text() + "\nANOTHER = 1\n")
    steps, process = make_report("RUN=done", FAILS_BEFORE="3_latency")
    assert process.returncode != 0 and steps == ["3_latency"]
    assert steps_of_done(make_report) == ["3_latency", "6_report"]


def test_a_new_seed_of_a_network_that_5_faster_compares_is_judged_without_measuring_again(make_report: MakeReport) -> None:
    plan = make_report.folder / "profiles" / "smoke.yaml"
    plan.write_text(plan.read_text().replace("engines: [onnxruntime], precisions: [int8]", "networks: [narrow]"))
    for name, steps in (("export", ["5_faster", "6_report"]), ("train/seed0", ["6_report"])):
        folder = make_report.folder / "results" / "narrow" / name
        folder.mkdir(parents=True)
        (folder / "record.json").touch()
        assert steps_of_done(make_report) == steps


@pytest.mark.parametrize(
    ("command", "error"),
    [(["report", "CLUSTER=slrum"], "There is no cluster profile slrum: CLUSTER=slurm is one"),
     (["report", "PROFILE=slow"], "There is no profile slow: choose one of full, "),
     (["report", "COMPARE=nowhere"], "There is no run nowhere under results/ to compare with."),
     (["report", "COMPARE=../results/xeon"], "There is no run ../results/xeon under results/ to compare with."),
     (["machines"], 'make machines needs NODES="')],
)
def test_a_wrong_option_is_refused_in_one_sentence(make_report: MakeReport, command: list[str], error: str) -> None:
    steps, process = make_report(*command[1:], target=command[0])
    assert process.returncode != 0 and steps == []
    assert error in process.stderr


def test_reference_runs_are_written_only_where_that_is_asked_for(make_report: MakeReport) -> None:
    sentence = "{0} is a reference run of this project: choose another name, or delete results/{0} first."
    for run in ("shipped", REFERENCE):
        steps, process = make_report(f"RUN={run}")
        assert process.returncode != 0 and steps == []
        assert process.stderr.splitlines()[0] == sentence.format(run)
    shutil.rmtree(make_report.folder / "results" / REFERENCE)
    steps, process = make_report(f"RUN={REFERENCE}")
    assert process.returncode == 0, process.stderr
    assert len(steps) == len(STEPS) and steps[-1] == STEPS[-1]
    steps, process = make_report(f"RUN={REFERENCE}")
    assert steps == [] and sentence.format(REFERENCE) in process.stderr


# ---- a user's own configuration


@pytest.mark.parametrize(
    "options",
    [{"SNAKEMAKE_PROFILE": "mine"}, {"HOME": "/proc/nohome"}, {"PYTHONWARNINGS": "error"},
     {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],  # an encoding that is not UTF-8
    ids=lambda options: next(iter(options)),
)
def test_a_users_own_configuration_does_not_matter(make_report: MakeReport, options: dict[str, str]) -> None:
    (make_report.folder / "mine").mkdir(exist_ok=True)
    (make_report.folder / "mine" / "config.yaml").write_text("dry-run: true\nexecutor: slurm\n")
    (make_report.folder / "results" / "done" / "half_precision" / "record.json").unlink()
    assert steps_of_done(make_report, **options) == ["4_half_precision", "6_report"]


# In place of Python where .venv is made: its pip writes down its arguments and environment.
SETS_UP = """#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir -p .venv/bin
printf '#!/bin/sh\\nenv >> pip.env\\necho "$*" >> pip.args' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


def set_up(folder: Path, **options: str) -> tuple[str, str]:
    """The arguments and environment of pip in `make .venv/ready`; empty where there is nothing to do."""
    files = folder / "pip.args", folder / "pip.env"
    for path in files:
        path.write_text("")
    subprocess.run(["make", ".venv/ready", f"PYTHON={folder / 'python'}"], cwd=folder, check=True, capture_output=True,
                   env={**os.environ, **options})
    return files[0].read_text(), files[1].read_text()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what is needed to set up .venv, and a script in place of Python."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(SETS_UP)
    (folder / "python").chmod(0o755)
    return folder


def test_packages_go_into_the_environment_whatever_pip_is_configured_to(bare: Path) -> None:
    arguments, environment = set_up(bare, PIP_USER="1", PIP_TARGET="/elsewhere", PIP_INDEX_URL="https://pypi.example.org")
    assert "PIP_USER" not in environment and "PIP_TARGET" not in environment
    assert "PIP_INDEX_URL=https://pypi.example.org" in environment  # a company's own, perhaps
    assert all("--no-user" in line for line in arguments.splitlines()) and "requirements.lock" in arguments


def test_an_environment_that_was_copied_or_moved_is_made_again(bare: Path) -> None:
    assert set_up(bare)[0] != ""
    assert set_up(bare)[0] == ""
    copied = bare.with_name("copied")
    shutil.copytree(bare, copied)
    assert set_up(copied)[0] != ""
    assert set_up(bare)[0] == ""
    assert set_up(bare.rename(bare.with_name("renamed")))[0] != ""
