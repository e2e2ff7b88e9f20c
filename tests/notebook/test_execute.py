"""The line that `make report` prints for a notebook: its duration, its progress, and the reason of a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
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


def test_the_line_says_how_long_it_takes_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1000.0, 1000.0 + 5 * 60])
    monkeypatch.setattr(execute.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(execute.papermill, "execute_notebook", lambda *_, **__: None)
    assert execute.run(tmp_path / "3_latency.ipynb", tmp_path / "new" / "3_latency.ipynb", {}, MINUTES)
    assert " ".join(capsys.readouterr().out.split()) == "3_latency about 10 min took 5 min, about 15 min left"


def test_a_notebook_runs_with_its_parameters_in_this_interpreter_whatever_the_users_kernels_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    foreign = tmp_path / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path, output = tmp_path / "3_latency.ipynb", tmp_path / "new" / "3_latency-again.ipynb"
    notebook(tmp_path, "runs: int = 3", "import sys; print(10 * runs, sys.executable)")
    assert execute.run(path, output, {"runs": 7}, {})
    assert nbformat.read(output, as_version=4).cells[-1].outputs[0].text == f"70 {sys.executable}\n"
    printed = capfd.readouterr()
    assert printed.out.startswith("3_latency-again") and "took" in printed.out and "left" not in printed.out
    assert printed.err == ""


BAR = """import sys, time
from tqdm import tqdm
print("waiting for another measurement", file=sys.stderr, flush=True)
for _ in tqdm(range(4), desc="timing", mininterval=0):
    time.sleep(0.3)"""


@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "file"])
def test_on_a_terminal_the_line_follows_the_notebooks_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_terminal)
    assert execute.run(notebook(tmp_path, "runs: int = 3", BAR), tmp_path / "executed.ipynb", {}, MINUTES)
    *states, last = capsys.readouterr().out.split("\r")
    assert any(state.endswith("about 10 min    timing: 75%, 00:00 left\x1b[K") for state in states) == on_terminal
    assert any(state.endswith("about 10 min    waiting for another measurement\x1b[K") for state in states) == on_terminal
    assert not any("100%" in state for state in states)
    assert last.startswith("executed ") and "took" in last and "timing" not in last


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_one_line_and_ends_the_notebook(tmp_path: Path, how: signal.Signals) -> None:
    mark = tmp_path / "mark"
    path = notebook(tmp_path, "import os, subprocess, time", f"""
child = subprocess.Popen(["sleep", "99"], start_new_session=True)
with open({str(mark)!r}, "w") as mark:
    mark.write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(99)""")
    process = subprocess.Popen([sys.executable, "-m", "cifar_bench.notebook.execute", path, tmp_path / "executed.ipynb", "{}"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, PROFILE_VARIABLE: "thorough"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # background jobs lack it
    try:
        deadline = time.monotonic() + 60
        while not (mark.is_file() and mark.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(how)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "interrupted after" in printed and errors == ""
    minutes = yaml.safe_load((ROOT / "profiles" / "thorough.yaml").read_text())["minutes"]["3_latency"]
    assert f"about {minutes} min" in printed
    left = [psutil.Process(number) for number in map(int, mark.read_text().split()) if psutil.pid_exists(number)]
    assert psutil.wait_procs(left, timeout=5)[1] == []  # they were killed; the system removes them a little later


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [("from cifar_lib import InputError\nraise InputError('runs is too small: use more.')",
      "3_latency, In [2] of {}: InputError: runs is too small: use more.\n"),
     ("assert runs == 4", "3_latency, In [2] of {}: AssertionError: no reason given\n"),
     ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
      "3_latency, executed as {}: its kernel died, perhaps killed for lack of memory.\n")],
)
def test_a_failure_names_the_notebook_the_cell_the_reason_and_the_executed_file(
    tmp_path: Path, capfd: pytest.CaptureFixture, cell: str, sentence: str
) -> None:
    output = tmp_path / "executed.ipynb"
    assert not execute.run(notebook(tmp_path, "runs: int = 3", cell), output, {}, MINUTES)
    printed = capfd.readouterr()
    assert "failed after" in printed.out and printed.err == sentence.format(output)
    assert nbformat.read(output, as_version=4).cells[-1].source == cell
