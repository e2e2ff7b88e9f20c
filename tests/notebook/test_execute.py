"""What `make report` tells of a notebook while it runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from cifar_bench.notebook import execute
from cifar_bench.records import PROFILE_VARIABLE
from cifar_lib import ROOT


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "3_latency.ipynb"
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    code[0].metadata.tags = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)
    return path


MINUTES = {"2_export": 1, "3_latency": 10, "4_half_precision": 20, "6_report": 10}


def test_a_line_says_how_long_it_takes_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1000.0, 1000.0 + 5 * 60])
    monkeypatch.setattr(execute.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(execute.papermill, "execute_notebook", lambda *_, **__: None)
    assert execute.run(tmp_path / "3_latency.ipynb", tmp_path / "new" / "3_latency.ipynb", {}, MINUTES)
    assert " ".join(capsys.readouterr().out.split()) == "3_latency about 10 min took 5 min, about 15 min left"


def test_the_executed_notebook_is_kept_with_its_parameters(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "new" / "3_latency-again.ipynb"
    assert execute.run(notebook(tmp_path, "runs: int = 3", "print(10 * runs)"), output, {"runs": 7}, {})
    assert "70" in output.read_text()
    told = capsys.readouterr()
    assert told.out.startswith("3_latency-again") and "took" in told.out and "left" not in told.out
    assert told.err == ""


def test_the_kernel_is_this_interpreter_whatever_the_users_kernels_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    foreign = tmp_path / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    output = tmp_path / "executed.ipynb"
    assert execute.run(notebook(tmp_path, "runs: int = 3", "import sys; print(sys.executable)"), output, {}, {})
    assert nbformat.read(output, as_version=4).cells[-1].outputs[0].text == f"{sys.executable}\n"


BAR = """import sys, time
from tqdm import tqdm
print("waiting for another one to end", file=sys.stderr, flush=True)
for _ in tqdm(range(4), desc="timing", mininterval=0):
    time.sleep(0.3)"""


def test_on_a_terminal_the_line_follows_the_notebooks_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    path = notebook(tmp_path, "runs: int = 3", BAR)
    assert execute.run(path, tmp_path / "executed.ipynb", {}, MINUTES)
    *states, last = capsys.readouterr().out.split("\r")
    assert any(state.endswith("about 10 min    timing: 75%, 00:00 left\x1b[K") for state in states)
    assert any(state.endswith("about 10 min    waiting for another one to end\x1b[K") for state in states)
    assert not any("100%" in state for state in states)
    assert last.startswith("executed ") and "took" in last and "timing" not in last


def test_a_file_gets_the_finished_line_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert execute.run(notebook(tmp_path, "runs: int = 3", BAR), tmp_path / "executed.ipynb", {}, MINUTES)
    told = capsys.readouterr().out
    assert "took" in told and "timing" not in told and "\r" not in told


@pytest.mark.parametrize(("how", "profile"), [(signal.SIGINT, "full"), (signal.SIGTERM, "thorough")])
def test_an_interruption_is_told_in_a_line_and_ends_the_notebook(tmp_path: Path, how: signal.Signals, profile: str) -> None:
    mark = tmp_path / "mark"
    path = notebook(tmp_path, "import os, time", f"open({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(99)")
    process = subprocess.Popen([sys.executable, "-m", "cifar_bench.notebook.execute", path, tmp_path / "executed.ipynb", "{}"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, PROFILE_VARIABLE: profile},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # background jobs lack it
    try:
        deadline = time.monotonic() + 60
        while not (mark.is_file() and mark.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(how)
        told, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "interrupted after" in told and errors == ""
    minutes = yaml.safe_load((ROOT / "profiles" / f"{profile}.yaml").read_text()).get("minutes", {}).get("3_latency")
    assert (f"about {minutes} min" if minutes else "under way") in told  # as the profile says, where it says
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


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
