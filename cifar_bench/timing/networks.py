"""Several networks, each exported by a run of its own: all their engines and precisions share the same rounds."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar_bench import records
from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import Setup, cache_folder
from cifar_bench.timing.latency import LatencyJob


@dataclass(frozen=True)
class NetworkJob(LatencyJob):
    """The latency of every image with the network that the run `network` exported; "" is the measurement's own network."""

    network: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.network}-{super().name}" if self.network else super().name

    def folder(self, exported: Path) -> Path:
        return folder_of(self.network, exported)


def folder_of(network: str, exported: Path) -> Path:
    """The folder of a network's exported files: that of the run of this name, or `exported` for ""."""
    return records.step_folder(network, "export") if network else exported


def setup_of(row: Mapping, exported: Path) -> Setup:
    """The engine's setup in a row of a record; `exported` has the measurement's own exported files."""
    folder = folder_of(row.get("network", ""), exported)
    return Setup(folder, cache_folder(folder), row["precision"], row["device"], row["threads"], options=row["options"])


def keep_file(row: Mapping, exported: Path, folder: Path) -> dict:
    """Copy the file that a row's engine loads to `folder`, as `winner` with its suffix; return its name, bytes and SHA-256."""
    loaded = ENGINES[row["engine"]].model_file(setup_of(row, exported))
    kept = folder / f"winner{loaded.suffix}"
    with records.replacing(kept) as path:
        shutil.copyfile(loaded, path)
    for older in set(folder.glob("winner.*")) - {kept}:
        older.unlink()
    return {"file": kept.name, "bytes": loaded.stat().st_size, "sha256": records.sha256(loaded)}
