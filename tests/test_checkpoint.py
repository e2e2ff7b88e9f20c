"""A killed training goes on as if nothing had happened, and no damaged checkpoint is ever used."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from cifar_lib import ROOT, records
from cifar_lib.checkpoint import Checkpoints

IDENTITY = {"parameters": {"epochs": 3}, "torch": "2.13.0"}


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Checkpoints of epochs 1 to 3."""
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, {"epoch": epoch, "weights": torch.arange(1000) * epoch})
    return checkpoints


def files(checkpoints: Checkpoints) -> list[Path]:
    return sorted(checkpoints.folder.iterdir())


def test_the_newest_is_found_and_the_one_before_kept(kept: Checkpoints) -> None:
    assert [path.name[:15] for path in files(kept)] == ["checkpoint-0002", "checkpoint-0003"]
    state = kept.newest()
    assert state["epoch"] == 3 and torch.equal(state["weights"], torch.arange(1000) * 3)


def test_there_is_none_at_the_beginning(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, IDENTITY).newest() is None


def test_none_is_left_after_the_end(kept: Checkpoints) -> None:
    kept.clear()
    assert files(kept) == [] and kept.newest() is None


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda _: b""], ids=["truncated", "a bit flipped", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_taken(kept: Checkpoints, capsys: pytest.CaptureFixture, damage) -> None:
    newest = files(kept)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    assert kept.newest()["epoch"] == 2
    assert f"{newest} is damaged" in capsys.readouterr().err


def test_all_damaged_means_to_begin_again(kept: Checkpoints) -> None:
    for path in files(kept):
        path.write_bytes(b"")
    assert kept.newest() is None


def test_that_of_another_training_is_not_taken(kept: Checkpoints, capsys: pytest.CaptureFixture) -> None:
    assert Checkpoints(kept.folder, {**IDENTITY, "torch": "2.12.0"}).newest() is None
    assert "other parameters, data or versions" in capsys.readouterr().err


def test_an_unfinished_training_that_got_further_does_not_push_out_the_new_ones(kept: Checkpoints) -> None:
    other = Checkpoints(kept.folder, {**IDENTITY, "parameters": {"epochs": 5}})
    for epoch in (1, 2):
        time.sleep(0.02)  # the clock of a file system may tick slowly
        other.save(epoch, {"epoch": epoch})
        assert other.newest() == {"epoch": epoch}
    assert len(files(other)) == 2


def test_one_that_holds_other_objects_is_not_unpickled(kept: Checkpoints, capsys: pytest.CaptureFixture) -> None:
    kept.save(4, {"epoch": 4, "weights": Path("neither a tensor nor a plain value")})
    assert kept.newest()["epoch"] == 3
    assert "checkpoint-0004" in capsys.readouterr().err


# ---- kill -9


def start(run: str, folder: Path) -> subprocess.Popen:
    """A training of a few seconds."""
    parameters = {"run": run, "epochs": 6, "train_images": 3000, "test_images": 100, "width": 6, "device": "cpu"}
    arguments = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    notebook = str(ROOT / "notebooks/1_train.ipynb")
    return subprocess.Popen(
        [sys.executable, "-m", "papermill", "--no-progress-bar", notebook, f"{run}.ipynb", *arguments],
        cwd=folder, env={**os.environ, "CIFAR10_DIR": "stand-in"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def kill_after_epoch(run: str, folder: Path, epoch: int, delay: float) -> None:
    """Start the training and kill it `delay` seconds after it has kept a checkpoint of `epoch`, wherever it is then."""
    process, deadline = start(run, folder), time.monotonic() + 120
    seed = records.step_folder(run, "train/seed0")
    while not list(seed.glob(f"checkpoint-{epoch:04}-*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    time.sleep(delay)
    papermill = psutil.Process(process.pid)
    for victim in [papermill, *papermill.children(recursive=True)]:  # the kernel trains, in a session of its own
        victim.kill()
    process.wait()
    assert not (seed / "record.json").exists()


def test_killed_three_times_a_training_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = f"test-whole-{os.getpid()}", f"test-killed-{os.getpid()}"
    try:
        assert start(whole, tmp_path).wait() == 0
        for epoch in (1, 3, 4):
            kill_after_epoch(killed, tmp_path, epoch, random.uniform(0, 0.3))
        assert start(killed, tmp_path).wait() == 0
        weights = [(records.step_folder(run, "train/seed0") / "weights.pt").read_bytes() for run in (whole, killed)]
        assert weights[0] == weights[1]
        resumed = records.read(records.step_folder(killed, "train/seed0"))["measurements"]["resumed_after"]
        assert len(resumed) == 3 and resumed == sorted(resumed) and resumed[0] >= 1
        assert not list(records.step_folder(killed, "train/seed0").glob("checkpoint-*"))
    finally:
        for run in (whole, killed):
            shutil.rmtree(ROOT / "results" / run, ignore_errors=True)
