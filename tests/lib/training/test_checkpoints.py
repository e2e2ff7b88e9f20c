"""A killed training run resumes with the same result bit for bit, and no damaged checkpoint is ever used."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from cifar_bench import records
from cifar_lib import ROOT
from cifar_lib.data import normalize
from cifar_lib.model import ResNet9
from cifar_lib.training import optimizers, recipes
from cifar_lib.training.checkpoints import Checkpoints, Resumable

IDENTITY = {"parameters": {"epochs": 3}, "torch": "2.13.0"}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Checkpoints of epochs 1 to 3."""
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, {"epoch": epoch, "weights": torch.arange(1000) * epoch})
    return checkpoints


def files(checkpoints: Checkpoints) -> list[Path]:
    return sorted(checkpoints.folder.iterdir())


def epochs_in(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[2]) for path in folder.glob("checkpoint-*.pt"))


def test_the_newest_is_found_and_the_one_before_kept_until_the_end(saved: Checkpoints) -> None:
    assert epochs_in(saved.folder) == [2, 3]
    state = saved.newest()
    assert state["epoch"] == 3 and torch.equal(state["weights"], torch.arange(1000) * 3)
    saved.clear()
    assert files(saved) == [] and saved.newest() is None


@pytest.mark.parametrize("damage", ["truncated", "a bit flipped", "other objects than tensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    saved: Checkpoints, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    newest, used = files(saved)[-1], 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "other objects than tensors":
        saved.save(4, {"epoch": 4, "weights": Path("not unpickled")})
        newest, used = files(saved)[-1], 3
    else:
        newest.write_bytes(content if damage == "a bit flipped" else content[: len(content) // 2])
    assert saved.newest()["epoch"] == used
    assert f"{newest} is damaged" in capsys.readouterr().err
    for path in files(saved):
        path.write_bytes(b"")
    assert saved.newest() is None


def test_a_checkpoint_is_written_again_after_damage(saved: Checkpoints) -> None:
    newest = files(saved)[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[:500])
    saved.save(3, {"epoch": 3, "weights": torch.arange(1000) * 3})
    assert newest.read_bytes() == content and epochs_in(saved.folder) == [2, 3]


def test_a_checkpoint_of_another_training_run_is_not_used(saved: Checkpoints, capsys: pytest.CaptureFixture[str]) -> None:
    for other in ({"torch": "2.12.0"}, {"parameters": {"epochs": 5}}):
        assert Checkpoints(saved.folder, {**IDENTITY, **other}).newest() is None
    assert Checkpoints(saved.folder, dict(reversed(IDENTITY.items()))).newest()["epoch"] == 3
    assert capsys.readouterr().err == ""


def test_training_runs_in_one_folder_keep_and_clear_their_own(saved: Checkpoints) -> None:
    other = Checkpoints(saved.folder, {**IDENTITY, "parameters": {"epochs": 1000}})
    for epoch in (9, 10, 99, 100, 999, 1000):
        other.save(epoch, {"epoch": epoch})
        assert other.newest() == {"epoch": epoch}
    assert epochs_in(saved.folder) == [2, 3, 999, 1000]
    other.clear()
    assert epochs_in(saved.folder) == [2, 3] and other.newest() is None and saved.newest()["epoch"] == 3


# ---- all state of a training run


class TrainingRun:
    """A training run of few images in few steps, with everything that has state: two optimizers and averaged weights."""

    def __init__(self, folder: Path, mixed_precision: bool = False) -> None:
        torch.manual_seed(0)
        self.images, self.labels = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 10
        self.network, self.mixed_precision = ResNet9([4, 8, 16, 32]), mixed_precision
        recipe = recipes.RECIPES["fast"]
        recipes.initialize(self.network, recipe, self.images)
        self.optimizers = optimizers.make_optimizers(self.network, recipe)
        self.averaged = recipes.averaged_weights(self.network, recipe, 100)
        random = torch.Generator().manual_seed(0)
        self.state = Resumable(Checkpoints(folder, IDENTITY), [self.network, *self.optimizers, self.averaged], random)
        self.state.resume()

    def epoch(self) -> None:
        number = len(self.state.history)
        for batch in torch.randperm(40, generator=self.state.random).split(20):
            optimizers.scale_learning_rates(self.optimizers, 1 / (1 + number))
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed_precision):
                logits = self.network(normalize(self.images[batch]))
            loss = cross_entropy(logits.float(), self.labels[batch])
            self.network.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            self.averaged.update_parameters(self.network)
        self.state.history.append({"epoch": number + 1, "loss": loss.item()})
        self.state.save()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a network trains faster with one thread than with several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mixed_precision", [False, True], ids=["float32", "bfloat16"])
def test_a_training_run_resumed_before_each_epoch_gives_the_same_as_an_uninterrupted_one(
    tmp_path: Path, one_thread: None, mixed_precision: bool
) -> None:
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    whole = TrainingRun(tmp_path / "whole", mixed_precision)
    for number in range(4):
        whole.epoch()
        resumed = TrainingRun(tmp_path / "resumed", mixed_precision)
        assert resumed.state.resumed_after == list(range(1, number + 1))
        resumed.epoch()
        assert resumed.state.history == whole.state.history
    for one, other in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_checkpoint_of_another_structure_is_refused(tmp_path: Path, one_thread: None) -> None:
    run = TrainingRun(tmp_path)
    run.epoch()
    without_average = Resumable(run.state.checkpoints, run.state.stateful[:-1], torch.Generator())
    with pytest.raises(ValueError):
        without_average.resume()


# ---- kill -9


TRAINS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for number, cell in enumerate(json.load(open(sys.argv[1]))):
    shell.run_cell(cell, store_history=True).raise_error()
    if number == 0:  # the cell of parameters
        shell.push(json.loads(sys.argv[2]))
"""


def start(run: str, folder: Path, mixed_precision: str) -> subprocess.Popen:
    """A training run of a few seconds: the notebook's cells in one process, which starts sooner than papermill and a kernel."""
    notebook = json.loads((ROOT / "notebooks/1_train.ipynb").read_text(encoding="utf-8"))
    cells = folder / "cells.json"
    cells.write_text(json.dumps(["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]))
    parameters = {"run": run, "epochs": 10, "train_images": 500, "test_images": 100, "width": 6, "device": "cpu",
                  "mixed_precision": mixed_precision}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINS, str(cells), json.dumps(parameters)], cwd=folder, stdout=subprocess.DEVNULL,
        env={**os.environ, "CIFAR10_DIR": "synthetic", "IPYTHONDIR": str(folder), "MPLBACKEND": "agg",
             "OMP_WAIT_POLICY": "passive"},  # two at once: waiting threads must not take each other's cores
    )


def kill_after_epoch(process: subprocess.Popen, folder: Path, epoch: int, delay: float) -> None:
    """Kill a training run `delay` seconds after it saved a checkpoint of `epoch` or a later one, wherever it is then."""
    deadline = time.monotonic() + 120
    while max(epochs_in(folder), default=0) < epoch:
        assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert not (folder / "record.json").exists()


@pytest.mark.parametrize(("mixed_precision", "epochs"), [
    pytest.param("off", (1, 3, 5), marks=pytest.mark.ci(seconds=47), id="float32"), pytest.param("on", (3,), id="bfloat16")])
def test_a_training_run_killed_several_times_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, mixed_precision: str, epochs: tuple[int, ...]
) -> None:
    runs = [f"test-{name}-{mixed_precision}-{os.getpid()}" for name in ("whole", "killed")]
    folders = [records.step_folder(run, "train/seed0") for run in runs]
    processes = [start(runs[0], tmp_path, mixed_precision)]  # beside the other, on which it must not depend
    try:
        for epoch in epochs:
            processes.append(start(runs[1], tmp_path, mixed_precision))
            kill_after_epoch(processes[-1], folders[1], epoch, random.uniform(0, 0.2))
        processes.append(start(runs[1], tmp_path, mixed_precision))
        assert processes[-1].wait() == processes[0].wait() == 0
        weights = [(folder / "weights.pt").read_bytes() for folder in folders]
        assert weights[0] == weights[1]
        measured = [records.read(folder)["measurements"] for folder in folders]
        assert all(result["bfloat16"] is (mixed_precision == "on") for result in measured)
        resumed = measured[1]["resumed_after"]
        assert measured[0]["resumed_after"] == [] and len(resumed) == len(epochs) and resumed == sorted(resumed)
        assert all(after >= epoch for after, epoch in zip(resumed, epochs))
        assert not epochs_in(folders[1])
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for run in runs:
            shutil.rmtree(ROOT / "results" / run, ignore_errors=True)
            for lock in (ROOT / "results" / ".locks").glob(f"{run}.*"):
                lock.unlink()
