"""A killed training goes on as if nothing had happened, and no damaged checkpoint is ever used."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from cifar_bench import records
from cifar_lib import ROOT
from cifar_lib.data import normalise
from cifar_lib.model import ResNet9
from cifar_lib.training import optimizers, recipes
from cifar_lib.training.checkpoints import Checkpoints, Resumable

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


def epochs_in(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[2]) for path in folder.glob("checkpoint-*.pt"))


def test_the_newest_is_found_and_the_one_before_kept(kept: Checkpoints) -> None:
    assert epochs_in(kept.folder) == [2, 3]
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
def test_a_damaged_one_is_named_and_the_one_before_taken(
    kept: Checkpoints, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    newest = files(kept)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    assert kept.newest()["epoch"] == 2
    assert f"{newest} is damaged" in capsys.readouterr().err


def test_all_damaged_means_to_begin_again(kept: Checkpoints) -> None:
    for path in files(kept):
        path.write_bytes(b"")
    assert kept.newest() is None


def test_a_training_goes_on_from_one_that_was_written_again_after_damage(kept: Checkpoints) -> None:
    newest = files(kept)[-1]
    content = newest.read_bytes()
    newest.write_bytes(truncate(content))
    kept.save(3, {"epoch": 3, "weights": torch.arange(1000) * 3})
    assert newest.read_bytes() == content and epochs_in(kept.folder) == [2, 3]


@pytest.mark.parametrize(
    "other", [{"torch": "2.12.0"}, {"parameters": {"epochs": 5}}, {"data": "8e2e"}], ids=["version", "parameters", "data"]
)
def test_that_of_another_training_is_not_taken(kept: Checkpoints, capsys: pytest.CaptureFixture[str], other: dict) -> None:
    assert Checkpoints(kept.folder, {**IDENTITY, **other}).newest() is None
    assert capsys.readouterr().err == ""  # nothing is wrong with it


def test_the_order_in_which_an_identity_is_written_does_not_matter(kept: Checkpoints) -> None:
    assert Checkpoints(kept.folder, dict(reversed(IDENTITY.items()))).newest()["epoch"] == 3


def test_trainings_side_by_side_keep_and_clear_their_own(kept: Checkpoints) -> None:
    other = Checkpoints(kept.folder, {**IDENTITY, "parameters": {"epochs": 5}})
    for epoch in (1, 2, 3, 4, 5):
        other.save(epoch, {"epoch": epoch})
        assert other.newest() == {"epoch": epoch}
    assert epochs_in(kept.folder) == [2, 3, 4, 5]
    assert kept.newest()["epoch"] == 3
    other.clear()
    assert epochs_in(kept.folder) == [2, 3] and other.newest() is None and kept.newest()["epoch"] == 3


def test_a_clock_that_was_set_back_does_not_matter(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    for epoch in (1, 2, 3, 4):
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() + 3600,) * 2)  # as written an hour from now
        checkpoints.save(epoch, {"epoch": epoch})
        assert checkpoints.newest() == {"epoch": epoch}
    assert epochs_in(tmp_path) == [3, 4]


def test_the_thousandth_epoch_comes_after_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    for epoch in (9, 10, 99, 100, 999, 1000):  # 1000 is the most that 1_train makes
        checkpoints.save(epoch, {"epoch": epoch})
        assert checkpoints.newest() == {"epoch": epoch}


def test_one_that_holds_other_objects_is_not_unpickled(kept: Checkpoints, capsys: pytest.CaptureFixture) -> None:
    kept.save(4, {"epoch": 4, "weights": Path("neither a tensor nor a plain value")})
    assert kept.newest()["epoch"] == 3
    assert f"{files(kept)[-1]} is damaged" in capsys.readouterr().err


# ---- what changes in a training


class Training:
    """A training of few images in few steps, with everything that a recipe can bring: optimizers, Muon, averages."""

    def __init__(self, folder: Path, mixed_precision: bool) -> None:
        torch.manual_seed(0)
        self.images, self.labels = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 10
        self.network, self.mixed_precision = ResNet9([4, 8, 16, 32]), mixed_precision
        recipe = recipes.RECIPES["fast"]
        recipes.initialise(self.network, recipe, self.images)
        self.optimizers = optimizers.make_optimizers(self.network, recipe)
        self.averaged = recipes.average(self.network, recipe, 100)
        random = torch.Generator().manual_seed(0)
        self.state = Resumable(Checkpoints(folder, IDENTITY), [self.network, *self.optimizers, self.averaged], random)
        self.state.resume()

    def epoch(self) -> None:
        number = len(self.state.history)
        for batch in torch.randperm(40, generator=self.state.random).split(20):
            optimizers.set_rate(self.optimizers, 1 / (1 + number))
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed_precision):
                logits = self.network(normalise(self.images[batch]))
            loss = cross_entropy(logits.float(), self.labels[batch])
            self.network.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            self.averaged.update_parameters(self.network)
        self.state.history.append({"epoch": number + 1, "loss": loss.item()})
        self.state.keep()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A network so small takes longer with several threads than with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mixed_precision", [False, True], ids=["float32", "bfloat16"])
def test_a_training_begun_anew_in_each_epoch_is_the_same_as_one_in_one_go(
    tmp_path: Path, one_thread: None, mixed_precision: bool
) -> None:
    whole = Training(tmp_path / "whole", mixed_precision)
    for number in range(4):
        whole.epoch()
        resumed = Training(tmp_path / "resumed", mixed_precision)
        assert resumed.state.resumed_after == list(range(1, number + 1))
        resumed.epoch()
        assert resumed.state.history == whole.state.history
    for one, other in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_training_without_a_checkpoint_begins_at_the_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path, mixed_precision=False)
    assert training.state.history == training.state.resumed_after == [] and capsys.readouterr().out == ""


def test_a_training_says_where_it_goes_on(
    tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Training(tmp_path, mixed_precision=False).epoch()
    capsys.readouterr()
    Training(tmp_path, mixed_precision=False)
    assert capsys.readouterr().out == "going on after epoch 1\n"


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path, one_thread: None) -> None:
    training = Training(tmp_path, mixed_precision=False)
    training.epoch()
    without_average = Resumable(training.state.checkpoints, training.state.parts[:-1], torch.Generator())
    with pytest.raises(ValueError):
        without_average.resume()


# ---- kill -9


TRAINS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for number, cell in enumerate(json.load(open(sys.argv[1]))):
    shell.run_cell(cell).raise_error()
    if number == 0:  # the cell of parameters
        shell.push(json.loads(sys.argv[2]))
"""


def start(run: str, folder: Path, mixed_precision: str) -> subprocess.Popen:
    """A training of a few seconds: the notebook's cells in one process, which starts sooner than papermill and a kernel."""
    notebook = json.loads((ROOT / "notebooks/1_train.ipynb").read_text(encoding="utf-8"))
    cells = folder / "cells.json"
    cells.write_text(json.dumps(["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]))
    parameters = {"run": run, "epochs": 10, "train_images": 500, "test_images": 100, "width": 6, "device": "cpu",
                  "mixed_precision": mixed_precision}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINS, str(cells), json.dumps(parameters)], cwd=folder, stdout=subprocess.DEVNULL,
        env={**os.environ, "CIFAR10_DIR": "synthetic", "IPYTHONDIR": str(folder), "MPLBACKEND": "agg",
             "OMP_WAIT_POLICY": "passive"},  # two trainings at once: threads that wait must not take each other's cores
    )


def kill_after_epoch(process: subprocess.Popen, folder: Path, epoch: int, delay: float) -> None:
    """Kill a training `delay` seconds after it has kept a checkpoint of `epoch` or a later one, wherever it is then."""
    deadline = time.monotonic() + 120
    while max(epochs_in(folder), default=0) < epoch:
        assert process.poll() is None and time.monotonic() < deadline, "the training ended before it could be killed"
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert not (folder / "record.json").exists()


@pytest.mark.parametrize(("mixed_precision", "epochs"), [
    pytest.param("off", (1, 3, 5), marks=pytest.mark.ci(seconds=47), id="float32"), pytest.param("on", (3,), id="bfloat16")])
def test_killed_several_times_a_training_ends_with_the_same_weights_bit_for_bit(
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
