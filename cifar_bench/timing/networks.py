"""Several networks at once, each exported by a run of its own: every engine and precision of theirs in the same rounds."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar_bench import records
from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import Setup, cache_folder
from cifar_bench.timing import process
from cifar_bench.timing.latency import LatencyJob


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


def setup_of(row: Mapping, exported: Path) -> Setup:
    """How the engine of a row was set up; the measurement's own exported files lie in `exported`."""
    folder = folder_of(row.get("network", ""), exported)
    return Setup(folder, cache_folder(folder), row["precision"], row["device"], row["threads"], options=row["options"])


def keep_file(row: Mapping, exported: Path, folder: Path) -> dict:
    """Copy what the engine of a row loads into `folder`, as `winner` with its ending; return its name, bytes and SHA-256."""
    loaded = ENGINES[row["engine"]].model_file(setup_of(row, exported))
    kept = folder / f"winner{loaded.suffix}"
    with records.replacing(kept) as path:
        shutil.copyfile(loaded, path)
    for older in set(folder.glob("winner.*")) - {kept}:
        older.unlink()
    return {"file": kept.name, "bytes": loaded.stat().st_size, "sha256": records.sha256(loaded)}


if __name__ == "__main__":
    process.main(NetworkJob)
