"""A copy of the clone, for tests that change code, write results, or ask git."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from cifar_bench.records import REFERENCES
from cifar_lib import ROOT, cifar10

REFERENCE = "xeon"  # the run in the README and, by default, in 6_report
COMMITTED_RUNS = sorted(REFERENCES)
COPIED = (".gitignore", "LICENSE", "Makefile", "README.md", "Snakefile", "claims.yaml", "published.yaml", "pyproject.toml",
          "requirements.lock", "cifar_bench", "cifar_lib", "docs", "notebooks", "profiles", "tests", f"figures/{REFERENCE}",
          *(f"results/{run}" for run in COMMITTED_RUNS))
OMITTED = shutil.ignore_patterns("__pycache__", "node_modules", ".ipynb_checkpoints", "report.html")
# Called in place of python and jupyter where only Snakemake's decisions matter: it writes the files of a step, and fails before
# or after that, or hangs, where it is told to.
STEP = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

FILES = {
    "1_train": ["train/seed0/weights.pt", "train/seed0/record.json"],
    "2_export": ["export/model.pt", "export/model.pt2", "export/model.onnx", "export/model-int8.onnx",
                 "export/record.json"],
    "3_latency": ["latency/record.json"],
    "4_half_precision": ["half_precision/record.json"],
    "5_faster": ["faster/record.json"],
    "6_report": ["report.html", "verdicts.json"],
}
if "cifar_bench.notebook.execute" in sys.argv:
    notebook, log, parameters = sys.argv[-3:]
    assert not [name for name in os.environ if name.endswith(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLAS_NUM_THREADS"))]
    step, run = Path(notebook).stem, Path(log).parent.parent
    with open(os.environ["STEPS"], "a") as steps:
        print(step, file=steps)
    if step == os.environ.get("FAILS_BEFORE"):
        sys.exit(1)
    if step == os.environ.get("HANGS"):  # and so does what it started, as a kernel is, in a session of its own
        signal.signal(signal.SIGTERM, signal.SIG_IGN if "STUBBORN" in os.environ else signal.SIG_DFL)
        subprocess.run(["sleep", "99"], start_new_session=True)
    for path in [run / name for name in FILES[step]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other content each time, or what follows would not be run again
        path.write_text(json.dumps({
            "schema": 1, "step": str(path.parent.relative_to(run)), "made": time.time_ns(), "seconds": 1,
            "parameters": json.loads(parameters), "profile": os.environ["REPORT_PROFILE"],
            "environment": {"hardware": "", "cpu": {}, "gpu": None}, "data": {"dataset": "CIFAR-10"}, "measurements": {},
            "series": {}, "records": {}}))
    sys.exit(step == os.environ.get("FAILS_AFTER"))
"""


def clone(folder: Path) -> Path:
    """`folder` with a copy of the clone as it is on disk, without environments, data and own runs."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=OMITTED)
        else:
            shutil.copy(source, target)
    for program in (ROOT / "build").glob("infer-*"):  # saves building it
        (folder / "build").mkdir(exist_ok=True)
        shutil.copy(program, folder / "build")
    return folder


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    """Make `folder` a repository, or commit what changed in it."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all files")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment in which this Python and its children import the packages from the copy in `folder`.

    Without what a `make test` around it hands down: a make within would print its folder and take its variables.
    """
    outer = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    own = {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
           "CIFAR_BENCH_LOCK": str(folder),
           "OMP_WAIT_POLICY": "passive"}  # waiting threads must not take the cores of other tests
    return {**outer, **own, **more}


def use_synthetic_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all processes use synthetic data, those of the copy the same files as the others."""
    monkeypatch.setenv("CIFAR10_DIR", cifar10.SYNTHETIC)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / cifar10.SYNTHETIC).symlink_to(cifar10.find())


class MakeReport:
    """`make report` in a copy of the clone, with `STEP` in place of every step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps, self.bin = folder, folder / ".venv" / "steps", folder / ".venv" / "bin"
        self.bin.mkdir(parents=True)  # the Makefile looks here first
        (folder / ".venv" / "ready").write_text(f"{folder.resolve()}\n")
        self._script = folder / ".venv" / "step.py"
        self._script.write_text(STEP)

    def start(self, *arguments: str, target: str = "report", **environ: str) -> subprocess.Popen:
        """Start the command; `steps` will name the steps that run."""
        self.steps.write_text("")
        for name in ("python", "jupyter"):
            path = self.bin / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{self._script}" "$@"\n')
            path.chmod(0o755)
        return subprocess.Popen(["make", target, "PROFILE=smoke", *arguments], cwd=self.folder, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=environment(self.folder, STEPS=str(self.steps), **environ))

    def __call__(
        self, *arguments: str, target: str = "report", **environ: str
    ) -> tuple[list[str], subprocess.CompletedProcess]:
        """The steps that ran, and the finished command."""
        process = self.start(*arguments, target=target, **environ)
        output, errors = process.communicate()
        for name in ("python", "jupyter"):
            (self.bin / name).unlink()
        return self.steps.read_text().split(), subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def edit_parameters(notebook: Path, **defaults: object) -> None:
    """Change the defaults of a notebook's parameters."""
    content = json.loads(notebook.read_text())
    cell = next(cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", []))
    lines = "".join(cell["source"]).splitlines()
    for name, value in defaults.items():
        number, = (number for number, line in enumerate(lines) if line.startswith(f"{name}: "))
        kept, comment = lines[number].split(" = ", 1)[0], lines[number].split("  # ", 1)[1]
        lines[number] = f"{kept} = {value!r}  # {comment}"
    cell["source"] = "\n".join(lines)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def measure_peaks_briefly(folder: Path) -> None:
    """Shorten the copy's measurement of peak FLOP/s, of which tests of notebooks need no accurate result."""
    from cifar_bench.timing import peak  # here: it imports PyTorch

    brief = {"SECONDS": 0.01, "REPEATS": 2, "PRODUCT_TIMEOUT_S": 0.001}
    assert set(brief) <= set(vars(peak))
    with (folder / "cifar_bench" / "timing" / "peak.py").open("a") as module:
        module.writelines(f"\n{name} = {value}" for name, value in brief.items())


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder` as `make` fills it, once for all workers of pytest-xdist."""
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        ready = folder / ".made"
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            ready.touch()
    return folder
