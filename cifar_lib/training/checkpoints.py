"""Checkpoints: a training run that was killed resumes from the last one, on a CPU with bit-for-bit the same result."""

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

MAX_KEPT = 2  # the newest, and the one before in case the newest is damaged


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder` of the training run that `identity` describes (hyperparameters, data, versions).

    Other training runs may have theirs in the same folder: a file name holds its run's digest, its epoch and its content's
    digest.
    """

    folder: Path
    identity: Mapping[str, object]

    def save(self, epoch: int, state: Mapping[str, object]) -> None:
        """Save `state` (tensors and plain values) after `epoch` epochs; delete all checkpoints but this and the one before."""
        buffer = io.BytesIO()
        torch.save({"identity": dict(self.identity), "state": dict(state)}, buffer)
        content = buffer.getvalue()
        path = self.folder / f"{self._prefix}{epoch:04}-{_digest(content)}.pt"
        scratch = path.with_suffix(".tmp")
        try:
            scratch.write_bytes(content)
            os.replace(scratch, path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise InputError(f"{path} cannot be written ({error.strerror}): free some space, then run again.") from error
        before = [other for other in self._files() if other != path]
        for old in before[MAX_KEPT - 1 :]:
            old.unlink()

    def newest(self) -> dict | None:
        """The state after the latest epoch that was saved. A damaged file is named and skipped."""
        for path in self._files():
            saved = _read(path)
            if saved and saved["identity"] == self.identity:
                return saved["state"]
            print(f"{path} is damaged: using the checkpoint before it.", file=sys.stderr)
        return None

    def clear(self) -> None:
        """Delete them all, when the training run is complete."""
        for path in self._files():
            path.unlink()

    @property
    def _prefix(self) -> str:
        return f"checkpoint-{_digest(json.dumps(self.identity, sort_keys=True).encode())[:8]}-"

    def _files(self) -> list[Path]:
        """This training run's checkpoints, the latest epoch first."""
        return sorted(self.folder.glob(f"{self._prefix}*.pt"), key=lambda path: path.name, reverse=True)


@dataclass
class Resumable:
    """A training run that can be resumed: all its state is saved after each epoch and restored after a kill.

    `stateful` holds the network, optimizers and averaged weights, `random` draws the batches, `history` has an entry for each
    epoch done, and `resumed_after` lists after how many epochs the run was resumed.
    """

    checkpoints: Checkpoints
    stateful: Sequence
    random: torch.Generator
    history: list[dict] = field(default_factory=list)
    resumed_after: list[int] = field(default_factory=list)

    def resume(self) -> None:
        """Restore everything from the last checkpoint, if there is one."""
        saved = self.checkpoints.newest()
        if not saved:
            return
        for part, state in zip(self.stateful, saved["stateful"], strict=True):
            part.load_state_dict(state)
        self.random.set_state(saved["random"])
        self.history, self.resumed_after = saved["history"], [*saved["resumed_after"], len(saved["history"])]
        print(f"resuming from the checkpoint of epoch {len(self.history)}")

    def save(self) -> None:
        """Save everything after the epoch that was added to the history last."""
        self.checkpoints.save(len(self.history), {
            "stateful": [part.state_dict() for part in self.stateful], "random": self.random.get_state(),
            "history": self.history, "resumed_after": self.resumed_after,
        })


def _read(path: Path) -> dict | None:
    """What `save` wrote; None where the file was changed since or holds more than tensors and plain values."""
    content = path.read_bytes()
    if path.stem.rpartition("-")[2] != _digest(content):
        return None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
