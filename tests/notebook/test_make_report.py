"""`make report`: which steps run again, and which runs it refuses to write. The steps themselves are stood in for.

And what of a user's own options must not matter to make.
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
    """In a clone of its own with a complete run, `done`; a test that changes something ends with a complete run again."""
    folder = clone(tmp_path_factory.mktemp("made") / "clone")
    commit(folder)
    make_report = MakeReport(folder)
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == STEPS
    return make_report


def change_a_parameter(folder: Path) -> None:
    path = folder / "profiles" / "smoke.yaml"
    plan = path.read_text()
    assert "export: {test_images: 1000}" in plan
    path.write_text(plan.replace("export: {test_images: 1000}", "export: {test_images: 900}"))


def change_the_code(folder: Path) -> None:
    path = folder / "notebooks" / "2_export.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][-1]["source"] = ["print('another cell')"]
    path.write_text(json.dumps(notebook))


def change_a_module(folder: Path) -> None:
    path = folder / "cifar_lib" / "engines" / "export.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")


def test_a_complete_run_has_nothing_to_do_though_files_were_touched_and_comments_changed(make_report: MakeReport) -> None:
    for path in [*make_report.folder.glob("notebooks/*.ipynb"), *make_report.folder.glob("results/shipped/**/*.json")]:
        path.touch()
    module = make_report.folder / "cifar_lib" / "engines" / "export.py"
    module.write_text(module.read_text() + "# a comment\n")
    notebook = make_report.folder / "notebooks" / "1_train.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = ["# Another title"]
    notebook.write_text(json.dumps(content))
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == []


@pytest.mark.parametrize("change", [change_a_parameter, change_the_code, change_a_module])
def test_a_step_that_failed_after_writing_its_record_is_not_run_again(
    make_report: MakeReport, change: Callable[[Path], None]
) -> None:
    change(make_report.folder)  # so that the step runs again, though an earlier run with other parameters or code was complete
    steps, process = make_report("RUN=done", FAILS_AFTER="2_export")
    assert process.returncode != 0
    assert process.stderr.splitlines()[0].startswith("No report, and no reason given: ask make plan ")
    assert "2_export" in steps and steps[-1] == "2_export"
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert sorted(steps) == STEPS[2:]


def test_a_step_that_failed_before_writing_its_record_is_run_again(make_report: MakeReport) -> None:
    record = make_report.folder / "results" / "done" / "half_precision" / "record.json"
    record.unlink()
    steps, process = make_report("RUN=done", FAILS_BEFORE="4_half_precision")
    assert process.returncode != 0
    assert steps == ["4_half_precision"]
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == ["4_half_precision", "6_report"]


def test_an_old_record_does_not_synthetic_for_the_one_of_a_step_that_failed(make_report: MakeReport) -> None:
    only_of_latency = make_report.folder / "cifar_lib" / "benchmark" / "loadgen.py"
    only_of_latency.write_text(only_of_latency.read_text() + "\nANOTHER = 1\n")
    steps, process = make_report("RUN=done", FAILS_BEFORE="3_latency")
    assert process.returncode != 0
    assert steps == ["3_latency"]
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == ["3_latency", "6_report"]


@pytest.mark.parametrize("target", ["report", "plan"])
def test_a_cluster_that_is_not_known_is_refused(make_report: MakeReport, target: str) -> None:
    process = subprocess.run(["make", target, "CLUSTER=slrum"], cwd=make_report.folder, capture_output=True, text=True)
    assert process.returncode != 0
    assert [line for line in process.stdout.splitlines() if not line.startswith("make")] == []
    assert "There is no cluster profile slrum: CLUSTER=slurm is one" in process.stderr


@pytest.mark.parametrize("run", ["nowhere", "xeon/", "../results/xeon", "longer"])
def test_a_run_to_set_beside_must_have_records_that_a_report_shows(make_report: MakeReport, run: str) -> None:
    steps, process = make_report(f"COMPARE={run}")
    assert process.returncode != 0 and steps == []
    assert process.stderr.splitlines()[0] == f"There is no run {run} under results/ to set beside this one."


def test_several_kinds_of_machines_need_a_feature_of_each(make_report: MakeReport) -> None:
    process = subprocess.run(["make", "machines"], cwd=make_report.folder, capture_output=True, text=True)
    assert process.returncode != 0 and "about" not in process.stdout and 'make machines needs NODES="' in process.stderr


def test_reference_runs_are_written_only_where_that_is_asked_for(make_report: MakeReport) -> None:
    sentence = "{0} is a reference run of this project: give yours another name, or delete results/{0} to make it anew."
    for run in ("shipped", REFERENCE):
        steps, process = make_report(f"RUN={run}")
        assert process.returncode != 0
        assert steps == []
        reason, *makes_own = process.stderr.splitlines()
        assert reason == sentence.format(run)
        assert len(makes_own) == 1 and makes_own[0].startswith("make")
    shutil.rmtree(make_report.folder / "results" / REFERENCE)
    steps, process = make_report(f"RUN={REFERENCE}")
    assert process.returncode == 0, process.stderr
    assert len(steps) == len(STEPS) and steps[-1] == STEPS[-1]
    steps, process = make_report(f"RUN={REFERENCE}")
    assert steps == [] and sentence.format(REFERENCE) in process.stderr


# ---- a user's own options


@pytest.mark.parametrize(
    "options",
    [{"SNAKEMAKE_PROFILE": "mine"}, {"HOME": "/proc/nohome"}, {"PYTHONWARNINGS": "error"},
     {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],  # an encoding that is not UTF-8
    ids=lambda options: next(iter(options)),
)
def test_a_users_own_settings_do_not_matter(make_report: MakeReport, options: dict[str, str]) -> None:
    (make_report.folder / "mine").mkdir(exist_ok=True)
    (make_report.folder / "mine" / "config.yaml").write_text("dry-run: true\nexecutor: slurm\n")
    (make_report.folder / "results" / "done" / "half_precision" / "record.json").unlink()
    steps, process = make_report("RUN=done", **options)
    assert process.returncode == 0, process.stderr
    assert steps == ["4_half_precision", "6_report"]


# Stands in for Python where .venv is made: its pip writes down what it was told.
SETS_UP = """#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir -p .venv/bin
printf '#!/bin/sh\\nenv >> pip.env\\necho "$*" >> pip.args' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


def set_up(folder: Path, **options: str) -> tuple[str, str]:
    """What pip is called with by `make .venv/ready`, and in which environment; nothing where there is nothing to do."""
    told = folder / "pip.args", folder / "pip.env"
    for path in told:
        path.write_text("")
    subprocess.run(["make", ".venv/ready", f"PYTHON={folder / 'python'}"], cwd=folder, check=True, capture_output=True,
                   env={**os.environ, **options})
    return told[0].read_text(), told[1].read_text()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what is needed to set up .venv, and a synthetic for Python."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(SETS_UP)
    (folder / "python").chmod(0o755)
    return folder


def test_packages_go_into_the_environment_though_pip_is_set_to_put_them_elsewhere(bare: Path) -> None:
    arguments, environment = set_up(bare, PIP_USER="1", PIP_TARGET="/elsewhere", PIP_INDEX_URL="https://pypi.example.org")
    assert "PIP_USER" not in environment and "PIP_TARGET" not in environment
    assert "PIP_INDEX_URL=https://pypi.example.org" in environment  # a company's own, perhaps
    assert all("--no-user" in line for line in arguments.splitlines()) and "requirements.lock" in arguments


def test_an_environment_that_was_copied_or_renamed_is_made_anew(bare: Path) -> None:
    assert set_up(bare)[0] != ""
    assert set_up(bare)[0] == ""
    copied = bare.with_name("copied")
    shutil.copytree(bare, copied)
    assert set_up(copied)[0] != ""
    assert set_up(copied)[0] == ""
    assert set_up(bare)[0] == ""
    assert set_up(bare.rename(bare.with_name("renamed")))[0] != ""
