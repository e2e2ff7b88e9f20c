"""Several networks at once, each exported by a run of its own: every engine and precision of theirs in the same rounds."""

from dataclasses import dataclass, field
from pathlib import Path

from cifar_lib import records
from cifar_lib.benchmark import process
from cifar_lib.benchmark.latency import LatencyJob


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


if __name__ == "__main__":
    process.main(NetworkJob)
