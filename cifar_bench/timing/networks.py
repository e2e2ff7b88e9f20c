"""Several networks, each exported by a run of its own: all their engines and precisions share the same rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar_bench import records
from cifar_bench.engines import export
from cifar_bench.engines.base import Setup, cache_folder
from cifar_bench.engines.models import load_exported
from cifar_bench.timing import peak
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


def describe(exported: Path) -> dict:
    """What the record of an export says of its network: `accuracy` (%), `parameters`, `weights_sha256`, and an image's FLOP.

    These are `flop`, and `flop_without_padding`, which older records lack. Makes model.pt where only the int8-quantized network
    is there. Raises InputError where there is no record.
    """
    measured = records.read(exported)["measurements"]
    export.make_missing(exported, "model.pt")
    without_padding = measured.get("flop_without_padding")
    if without_padding is None:
        without_padding = peak.flop_without_padding(load_exported(exported / "model.pt"))
    return {"flop": measured["forward_flop"], "flop_without_padding": without_padding,
            **{name: measured[name] for name in ("parameters", "accuracy", "weights_sha256")}}


def setup_of(row: Mapping, exported: Path) -> Setup:
    """The engine's setup in a row of a record; `exported` has the measurement's own exported files."""
    folder = folder_of(row.get("network", ""), exported)
    return Setup(folder, cache_folder(folder), row["precision"], row["device"], row["threads"], options=row["options"])
