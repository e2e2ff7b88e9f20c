"""The notebooks in JupyterLab, as `make lab` starts it: running and saving them changes nothing for any other command.

Needs Debian's chromium.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import chromium
from clones import (
    COMMITTED_RUNS,
    MakeReport,
    clone,
    commit,
    edit_parameters,
    environment,
    git,
    measure_peaks_briefly,
    use_synthetic_data,
)
from playwright.sync_api import Page

from cifar_bench import records

SMALL = {"images": 100, "warmup": 5, "threads": 1, "repeats": 0}
DEFAULTS = {
    "1_train": {"epochs": 1, "width": 4, "train_images": 256, "held_out": 100, "device": "cpu", "mixed_precision": "on"},
    "2_export": {"test_images": 200},
    "3_latency": {**SMALL, "engines": ["eager"]},
    "4_half_precision": {**SMALL, "engines": ["onnxruntime"], "precisions": ["float32"], "test_images": 100,
                         "max_batch_size": 1},
    "5_faster": {**SMALL, "engines": ["onnxruntime"], "precisions": ["int8"], "test_images": 100},
    "6_report": {},
}
SERVER = {"ServerApp": {"open_browser": False, "ip": "127.0.0.1", "port": 0}, "IdentityProvider": {"token": ""}}
TIMEOUT_S = 180  # for one notebook


@contextmanager
def jupyterlab(root: Path, private: Path) -> Iterator[str]:
    """The address of the server that `make lab` starts in the copy at `root`, with its configuration in `private`."""
    folders = {name: private / name for name in ("config", "data", "runtime", "ipython", "tmp")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["config"] / "jupyter_server_config.json").write_text(json.dumps(SERVER))
    log = private / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["make", "lab"], cwd=root, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env=environment(root, JUPYTER_CONFIG_DIR=str(folders["config"]), JUPYTER_DATA_DIR=str(folders["data"]),
                            JUPYTER_RUNTIME_DIR=str(folders["runtime"]), IPYTHONDIR=str(folders["ipython"]),
                            TMPDIR=str(folders["tmp"])),
        )
    server: dict = {}
    try:
        deadline = time.monotonic() + 120
        while "is running at" not in log.read_text():  # from then on it listens
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        described, = folders["runtime"].glob("jpserver-*.json")
        server = json.loads(described.read_text())
        yield server["url"]
    finally:
        if server:
            os.kill(server["pid"], signal.SIGTERM)  # it ends its kernels, too
        else:
            process.terminate()
        process.wait(timeout=60)


def choose(page: Page, menu: str, item: str) -> None:
    page.locator(".lm-MenuBar-item").get_by_text(menu, exact=True).click()
    page.locator(".lm-Menu-item").get_by_text(item, exact=True).click()


def run_all_and_save(page: Page, notebook: Path) -> list[dict]:
    """Open a notebook, run all its cells, save and close it; return the code cells in its file."""
    page.locator(".jp-DirListing-item").get_by_text(notebook.name, exact=True).dblclick()
    idle = page.locator("#jp-main-statusbar").get_by_text("| Idle")  # once the notebook's kernel is there
    idle.wait_for()
    choose(page, "Run", "Run All Cells")
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        idle.wait_for(timeout=1000 * TIMEOUT_S)
        with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url) as answer:
            choose(page, "File", "Save Notebook")
        assert answer.value.ok
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        failed = any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
        if failed or all(cell["execution_count"] for cell in cells) or time.monotonic() > deadline:
            break
        page.wait_for_timeout(200)  # a kernel is idle between two cells, too
    choose(page, "Kernel", "Shut Down Kernel")
    choose(page, "File", "Close Tab")
    page.locator(".jp-NotebookPanel").wait_for(state="detached")
    return cells


@pytest.mark.ci(seconds=224)
def test_running_and_saving_every_notebook_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = clone(tmp_path / "clone")
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in notebooks] == sorted(DEFAULTS)
    for path in notebooks:
        edit_parameters(path, **DEFAULTS[path.stem])
    measure_peaks_briefly(root)
    commit(root)
    use_synthetic_data(root, monkeypatch)
    make_report = MakeReport(root)
    steps, process = make_report("RUN=done")
    assert process.returncode == 0 and len(steps) == 6, process.stderr

    with chromium() as browser, jupyterlab(root, tmp_path / "jupyter") as url:
        page, requested = browser.new_page(), []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{url}lab")
        for path in notebooks:
            cells = run_all_and_save(page, path)
            outputs = [output for cell in cells for output in cell["outputs"]]
            assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == [], path.stem
            assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)], path.stem
            assert outputs
            assert ("Synthetic data" in json.dumps(outputs)) == (path.stem != "6_report")  # it shows the reference run
            assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []  # no question, no news
    assert len(requested) > 100
    assert {urlsplit(address).hostname for address in requested if not address.startswith(("data:", "blob:"))} == {"127.0.0.1"}

    lab = root / "results" / "lab"
    assert {records.read(path.parent)["data"]["dataset"] for path in lab.rglob("record.json")} == {"synthetic"}
    assert sorted(path.name for path in (root / "results").iterdir()) == [
        ".locks", *sorted(["done", "lab", *COMMITTED_RUNS])]

    changed = [line[3:] for line in git(root, "status", "--porcelain").splitlines()]
    assert changed == [f"notebooks/{path.name}" for path in notebooks]  # outputs only
    steps, process = make_report("RUN=done")
    assert process.returncode == 0, process.stderr
    assert steps == []
    command = [sys.executable, "-c", "from cifar_bench.records import code; print(code.uncommitted())"]
    process = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True)
    assert process.stdout == "[]\n", process.stderr
