"""Several networks at once, each exported by a run of its own: every engine and precision of theirs in the same rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifar_lib import records
from cifar_lib.benchmark import process
from cifar_lib.benchmark.latency import LatencyJob
from cifar_lib.data import Split
from cifar_lib.engines import predict
from cifar_lib.engines.base import Setup, prepared_folder


@dataclass(frozen=True)
class NetworkJob(LatencyJob):
    """The time of every image of a run, with the network that the run `network` exported; "" is the measurement's own."""

    network: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.network}-{super().name}" if self.network else super().name

    def folder(self, exported: Path) -> Path:
        return folder_of(self.network, exported)


def folder_of(network: str, exported: Path) -> Path:
    """Where the exported files of a network lie: of the run so named, or for "" in `exported`."""
    return records.step_folder(network, "export") if network else exported


def add_accuracy(rows: Sequence[dict], exported: Path, test: Split) -> None:
    """Add to each row of a latency measurement that ran `test_accuracy`, the percentage of `test` that its file is right on."""
    for row in tqdm([row for row in rows if "runs" in row], desc="accuracy", unit="file"):
        folder = folder_of(row["network"], exported)
        setup = Setup(folder, prepared_folder(folder), row["precision"], row["device"], row["threads"],
                      settings=row["settings"])
        predicted = predict(row["engine"], setup, test.images).argmax(1)
        row["test_accuracy"] = 100 * float(np.mean(predicted == test.labels.numpy()))


if __name__ == "__main__":
    process.main(NetworkJob)
