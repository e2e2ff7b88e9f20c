"""Checkpoints: what a training needs to go on after it was killed, bit for bit as if nothing had happened (on a CPU)."""

import hashlib
import io
import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cifar_lib import records

KEPT = 2  # the newest, and the one before should the newest be damaged


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder` of the training that `identity` describes (parameters, data, versions).

    Those of other trainings may lie beside them: each file's name bears its training's digest, its epoch and its SHA-256.
    """

    folder: Path
    identity: Mapping[str, object]

    def save(self, epoch: int, state: Mapping[str, object]) -> None:
        """Keep `state` (tensors and plain values) after `epoch` epochs, and of the earlier ones the last."""
        buffer = io.BytesIO()
        torch.save({"identity": dict(self.identity), "state": dict(state)}, buffer)
        content = buffer.getvalue()
        written = self.folder / f"{self._beginning}{epoch:04}-{_digest(content)}.pt"
        with records.replacing(written) as path:
            path.write_bytes(content)
        before = [path for path in self._files() if path != written]
        for old in before[KEPT - 1 :]:
            old.unlink()

    def newest(self) -> dict | None:
        """The state of the latest epoch that was kept. A damaged file is named and passed over."""
        for path in self._files():
            kept = _read(path)
            if kept and kept["identity"] == self.identity:
                return kept["state"]
            print(f"{path} is damaged and passed over: going on from the checkpoint before.", file=sys.stderr)
        return None

    def clear(self) -> None:
        """Remove them all: the training has its record."""
        for path in self._files():
            path.unlink()

    @property
    def _beginning(self) -> str:
        return f"checkpoint-{_digest(json.dumps(self.identity, sort_keys=True).encode())[:8]}-"

    def _files(self) -> list[Path]:
        """Those of this training, the latest epoch first."""
        return sorted(self.folder.glob(f"{self._beginning}*.pt"), key=lambda path: path.name, reverse=True)


@dataclass
class Resumable:
    """A training under way: what changes in it from epoch to epoch, kept after each and found again after a kill.

    `parts` have a state (the network, optimisers, moving averages), `random` draws the batches, `history` has an entry for
    each epoch done, and `resumed_after` says after how many epochs a killed training went on.
    """

    checkpoints: Checkpoints
    parts: Sequence
    random: torch.Generator
    history: list[dict] = field(default_factory=list)
    resumed_after: list[int] = field(default_factory=list)

    def resume(self) -> None:
        """Set everything to the last checkpoint, if there is one."""
        kept = self.checkpoints.newest()
        if not kept:
            return
        for part, state in zip(self.parts, kept["parts"], strict=True):
            part.load_state_dict(state)
        self.random.set_state(kept["random"])
        self.history, self.resumed_after = kept["history"], [*kept["resumed_after"], len(kept["history"])]
        print(f"going on after epoch {len(self.history)}")

    def keep(self) -> None:
        """Keep everything after the epoch that was added to the history last."""
        self.checkpoints.save(len(self.history), {
            "parts": [part.state_dict() for part in self.parts], "random": self.random.get_state(),
            "history": self.history, "resumed_after": self.resumed_after,
        })


def _read(path: Path) -> dict | None:
    """What `save` wrote, or None where the file is another by now or holds more than tensors and plain values."""
    content = path.read_bytes()
    if path.stem.rpartition("-")[2] != _digest(content):
        return None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
