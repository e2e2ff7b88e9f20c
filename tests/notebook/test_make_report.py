"""`make report`: which steps run again, and which runs it refuses to write. The steps themselves are stood in for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import MakeReport, clone, commit

STEPS = ["1_train", "2_export", "3_latency", "4_half_precision", "6_report"]


@pytest.fixture(scope="module")
def make_report(tmp_path_factory: pytest.TempPathFactory) -> MakeReport:
    """In a clone of its own with a complete run, `done`; a test that changes something ends with a complete run again."""
    folder = clone(tmp_path_factory.mktemp("made") / "clone")
    commit(folder)
    make_report = MakeReport(folder)
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert sorted(steps) == STEPS and steps[:2] == STEPS[:2] and steps[-1] == STEPS[-1]
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
    assert process.returncode != 0 and "No report." in process.stderr
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


def test_an_old_record_does_not_stand_in_for_the_one_of_a_step_that_failed(make_report: MakeReport) -> None:
    only_of_latency = make_report.folder / "cifar_lib" / "benchmark" / "loadgen.py"
    only_of_latency.write_text(only_of_latency.read_text() + "\nANOTHER = 1\n")
    steps, process = make_report("RUN=done", FAILS_BEFORE="3_latency")
    assert process.returncode != 0
    assert steps == ["3_latency"]
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == ["3_latency", "6_report"]


def test_reference_runs_are_written_only_where_that_is_asked_for(make_report: MakeReport) -> None:
    sentence = "{} is a reference run of this project: give yours another name{}"
    for argument, end in (("RUN=shipped", "."), ("RUN=epyc", ", or delete results/epyc to make it anew.")):
        steps, process = make_report(argument)
        assert process.returncode != 0
        assert steps == []
        assert sentence.format(argument, end) in process.stderr.splitlines()
    shutil.rmtree(make_report.folder / "results" / "epyc")
    steps, process = make_report("RUN=epyc")
    assert process.returncode == 0, process.stderr
    assert len(steps) == 5 and steps[-1] == "6_report"
    assert make_report("RUN=epyc")[0] == []  # it is complete, and its own
