"""Checkpoints: a training run that was killed resumes from the last one, on a CPU bit for bit as if nothing had happened."""

import hashlib
import io
import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cifar_lib import InputError

MAX_KEPT = 2  # the newest, and the one before should the newest be damaged


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder` of the training run that `identity` describes (parameters, data, versions).

    Those of other training runs may lie beside them: a file's name holds its run's digest, its epoch and its SHA-256.
    """

    folder: Path
    identity: Mapping[str, object]

    def save(self, epoch: int, state: Mapping[str, object]) -> None:
        """Save `state` (tensors and plain values) after `epoch` epochs, and delete all checkpoints but the one before."""
        buffer = io.BytesIO()
        torch.save({"identity": dict(self.identity), "state": dict(state)}, buffer)
        content = buffer.getvalue()
        written = self.folder / f"{self._beginning}{epoch:04}-{_digest(content)}.pt"
        scratch = written.with_suffix(".tmp")
        try:
            scratch.write_bytes(content)
            os.replace(scratch, written)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise InputError(f"{written} cannot be written ({error.strerror}): free the folder, then run again.") from error
        before = [path for path in self._files() if path != written]
        for old in before[MAX_KEPT - 1 :]:
            old.unlink()

    def newest(self) -> dict | None:
        """The state of the latest epoch that was saved. A damaged file is named and skipped."""
        for path in self._files():
            saved = _read(path)
            if saved and saved["identity"] == self.identity:
                return saved["state"]
            print(f"{path} is damaged: using the checkpoint before it.", file=sys.stderr)
        return None

    def clear(self) -> None:
        """Remove them all: the training run has its record."""
        for path in self._files():
            path.unlink()

    @property
    def _beginning(self) -> str:
        return f"checkpoint-{_digest(json.dumps(self.identity, sort_keys=True).encode())[:8]}-"

    def _files(self) -> list[Path]:
        """Those of this training run, the latest epoch first."""
        return sorted(self.folder.glob(f"{self._beginning}*.pt"), key=lambda path: path.name, reverse=True)


@dataclass
class Resumable:
    """A training run: what changes in it from epoch to epoch, saved after each and restored after a kill.

    `parts` have a state (the network, optimizers, moving averages), `random` draws the batches, `history` has an entry for
    each epoch done, and `resumed_after` says after how many epochs a killed run resumed.
    """

    checkpoints: Checkpoints
    parts: Sequence
    random: torch.Generator
    history: list[dict] = field(default_factory=list)
    resumed_after: list[int] = field(default_factory=list)

    def resume(self) -> None:
        """Restore everything from the last checkpoint, if there is one."""
        saved = self.checkpoints.newest()
        if not saved:
            return
        for part, state in zip(self.parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        self.random.set_state(saved["random"])
        self.history, self.resumed_after = saved["history"], [*saved["resumed_after"], len(saved["history"])]
        print(f"resuming after epoch {len(self.history)}")

    def save(self) -> None:
        """Save everything after the epoch that was added to the history last."""
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
