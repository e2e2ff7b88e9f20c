"""A real record of each step, made once for all tests by the code cells of the notebooks, so that a changed schema shows.

The data are synthetic, the network is tiny, and every job runs in the process that makes the records: the numbers mean
nothing. A test about numbers starts from such a record and changes them.

    python tests/records_made.py FOLDER     # writes FOLDER/results/lab/<step>/record.json
"""

import copy
import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from cifar_bench import records
from cifar_lib import ROOT

RUN = "lab"
STEPS = ["train/seed0", "export", "latency", "half_precision", "faster"]
PARAMETERS = {
    "1_train": {"width": 2, "epochs": 2, "train_images": 300, "test_images": 100, "mixed_precision": "off"},
    "2_export": {"weights_from": RUN, "test_images": 100},
    "3_latency": {"engines": ["eager", "torchscript"], "images": 100, "warmup": 20, "loadgen_rounds": 3, "threads": 1,
                  "repeats": 0},
    "4_half_precision": {"engines": ["torchscript", "onnxruntime"], "precisions": ["float32", "float16", "int8"], "images": 100,
                         "warmup": 10, "test_images": 200, "max_batch_size": 2, "threads": 1, "repeats": 0},
    "5_faster": {"networks": [], "engines": ["onnxruntime"], "precisions": ["float32", "int8"], "images": 100, "warmup": 10,
                 "test_images": 200, "threads": 1, "repeats": 0},
}


@dataclass(frozen=True)
class Made:
    """The records, in a folder that takes the place of the clone."""

    root: Path

    def folder(self, step: str) -> Path:
        return self.root / "results" / RUN / step

    def record(self, step: str) -> dict:
        """The record, which a test may change."""
        return records.read(self.folder(step))

    def series(self, step: str) -> dict[str, np.ndarray]:
        record = self.record(step)
        return {name: records.read_series(self.folder(step), record, name) for name in record["series"]}


def make(folder: Path) -> Made:
    """The records in `folder`, made by the first process that calls this while the others wait."""
    with FileLock(folder / "records-made.lock"):
        made, log = folder / "records-made", folder / "records-made.log"
        if not made.is_dir():
            unfinished = folder / "records-unfinished"
            with log.open("w") as output:  # a separate process: the notebooks set threads, flags and more
                code = subprocess.run([sys.executable, __file__, unfinished], stdout=output, stderr=subprocess.STDOUT,
                                      env={**os.environ, "PYTHONPATH": str(ROOT), "CIFAR10_DIR": "synthetic"}).returncode
            assert code == 0, log.read_text()[-3000:]
            unfinished.rename(made)
    return Made(made)


def timed(row: Mapping, ns: np.ndarray, **changes: object) -> dict:
    """A row of `engines` or `precisions` as if its runs had taken `ns` (runs×images), on an idle machine.

    `changes` are of the row: another engine, say.
    """
    from cifar_bench.timing.latency import LatencyJob, row_of  # here: conftest.py imports this file before PyTorch may be
    from cifar_bench.timing.rounds import Outcome

    row = copy.deepcopy({**row, **changes})
    job = LatencyJob(**{field.name: row[field.name] for field in fields(LatencyJob)} | {"images": ns.shape[1]})
    of_images = {"classes": np.zeros(ns.shape[1], np.uint8), "logits": np.zeros((1, 10)), "warmup_ns": ns[0, :1]}
    of_a_run = {"load_ns": 2_000_000_000, "background_cores": 0.0, "stopped_cores": 0.0, "contended": False,
                "state_changed": False, "probes": {}}
    results = [{**of_images, **of_a_run, "ns": run, "round": number} for number, run in enumerate(ns)]
    new = row_of(Outcome(job, results), np.zeros(ns.shape[1], np.int64), np.zeros((1, 10)))
    return row | {name: new[name] for name in ("images", "series", "accuracy", "max_logit_error", "runs")}


def row_named(rows: Sequence[Mapping], **named: object) -> dict:
    """A copy of the first row that was measured and has these values: engine="eager", say."""
    found = next(row for row in rows if "reason" not in row and named.items() <= row.items())
    return copy.deepcopy(dict(found))


def run_notebook(name: str, parameters: Mapping[str, object]) -> None:
    """Run a notebook's code cells, up to the cell that writes the record, with these `parameters`."""
    namespace: dict[str, object] = {"__name__": "__main__", "In": []}  # as IPython keeps what was run
    for cell in json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            namespace["In"].append(source)
            exec(compile(source, name, "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                namespace.update(parameters)
            if "step.write(" in source:
                return
    raise ValueError(f"{name} writes no record.")


def main(folder: Path) -> None:
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.figure import Figure

    from cifar_bench.analysis import evidence
    from cifar_bench.engines import base
    from cifar_bench.report import style, training
    from cifar_bench.timing import batches, loadgen, machine, peak, process, rounds
    from cifar_lib import cifar10

    def run_in_this_process(job: process.Job, setup: base.Setup) -> dict[str, np.ndarray]:
        """What a fresh process does, without the two seconds of importing PyTorch."""
        gc.freeze()  # or collecting garbage, which the timer does before each run, takes long with so many imports
        output = io.BytesIO()
        np.savez(output, **job.measure(setup))
        output.seek(0)
        return dict(np.load(output))

    def undrawn(figure: Figure, *ignored: object) -> style.Picture:
        """A picture that nobody looks at: drawing it would take most of the time."""
        plt.close(figure)
        return style.Picture("undrawn", "", "<svg></svg>", "")

    InteractiveShell.instance()  # or `display` returns no handle
    records.ROOT = base.ROOT = evidence.ROOT = folder
    cifar10.read = cache(cifar10.read)  # every job reads the images again
    rounds.run_in_fresh_process = loadgen.run_in_fresh_process = run_in_this_process
    training.picture = undrawn
    machine.LOCK = str(folder)  # nothing is compared here, so nothing needs to wait
    batches.SECONDS = peak.SECONDS = 0.005
    peak.MATRICES, peak.CONVOLVED = [64], [1]
    folder.mkdir(parents=True, exist_ok=True)
    for name, parameters in PARAMETERS.items():
        run_notebook(name, {"run": RUN, "device": "cpu", **parameters})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
