"""What `make report` tells of a notebook while it runs it."""

import os
from pathlib import Path

import nbformat
import pytest

from cifar_lib import execute


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "3_latency.ipynb"
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    code[0].metadata.tags = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)
    return path


MINUTES = {"2_export": 1, "3_latency": 10, "4_half_precision": 20, "5_report": 10}


def test_a_line_says_how_long_it_takes_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1000.0, 1000.0 + 5 * 60])
    monkeypatch.setattr(execute.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(execute.papermill, "execute_notebook", lambda *_, **__: None)
    assert execute.run(tmp_path / "3_latency.ipynb", tmp_path / "new" / "3_latency.ipynb", {}, MINUTES)
    assert " ".join(capsys.readouterr().out.split()) == "3_latency about 10 min took 5 min, about 15 min left"


def test_the_executed_notebook_is_kept_with_its_parameters(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    output = tmp_path / "new" / "3_latency-again.ipynb"
    assert execute.run(notebook(tmp_path, "runs: int = 3", "print(10 * runs)"), output, {"runs": 7}, {})
    assert "70" in output.read_text()
    told = capfd.readouterr()
    assert told.out.startswith("3_latency-again") and "took" in told.out and "left" not in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("cell", "words"),
    [("from cifar_lib import InputError\nraise InputError('runs is too small: use more.')",
      "3_latency, In [2] of {}: InputError: runs is too small: use more.\n"),
     ("assert runs == 4", "3_latency, In [2] of {}: AssertionError: no reason given\n"),
     ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
      "3_latency, executed as {}: its process ended before its time, killed perhaps for want of memory.\n")],
)
def test_a_failure_names_the_notebook_the_cell_the_reason_and_what_is_left_to_read(
    tmp_path: Path, capfd: pytest.CaptureFixture, cell: str, words: str
) -> None:
    output = tmp_path / f"{os.getpid()}.ipynb"
    assert not execute.run(notebook(tmp_path, "runs: int = 3", cell), output, {}, MINUTES)
    told = capfd.readouterr()
    assert "failed after" in told.out
    assert told.err == words.format(output)
    left = nbformat.read(output, as_version=4).cells[-1]
    assert left.source == cell
    assert left.execution_count == 2 or "SIGKILL" in cell  # a killed kernel may not have told its count
