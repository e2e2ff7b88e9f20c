"""Checkpoints: what a training needs to go on after it was killed, bit for bit as if nothing had happened (on a CPU)."""

import hashlib
import io
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_lib import records

KEPT = 2  # the newest, and the one before should the newest be damaged


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder` of the training that `identity` describes (parameters, data, versions)."""

    folder: Path
    identity: Mapping[str, object]

    def save(self, epoch: int, state: Mapping[str, object]) -> None:
        """Keep `state` (tensors and plain values) after `epoch` epochs. The file's name holds its SHA-256."""
        buffer = io.BytesIO()
        torch.save({"identity": dict(self.identity), "state": dict(state)}, buffer)
        content = buffer.getvalue()
        with records.replacing(self.folder / f"checkpoint-{epoch:04}-{_digest(content)}.pt") as path:
            path.write_bytes(content)
        for old in self._files()[KEPT:]:
            old.unlink()

    def newest(self) -> dict | None:
        """The state last kept. A damaged file is named and passed over, and so is one of another training."""
        for path in self._files():
            kept = _read(path)
            if not kept:
                print(f"{path} is damaged and passed over: going on from the checkpoint before.", file=sys.stderr)
            elif kept["identity"] != self.identity:
                print(f"{path} is of a training with other parameters, data or versions, and passed over.", file=sys.stderr)
            else:
                return kept["state"]
        return None

    def clear(self) -> None:
        """Remove them all: the training has its record."""
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        """The last written first: another training, left unfinished, may have got to a later epoch."""
        return sorted(self.folder.glob("checkpoint-*.pt"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


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
