"""Weights and exported files are loaded as the network they hold, or refused; a run and seed name their own network."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Refused
from helpers import tiny_network

from cifar_bench import records
from cifar_bench.engines import export, models
from cifar_bench.engines.models import teacher, trained_network


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = network.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(tiny_network().state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


# ---- files


def test_weights_and_exports_are_loaded_as_their_network(weights: Path, exported: Path) -> None:
    for loaded in models.load_weights(weights), models.load_exported(exported):
        assert same(loaded, tiny_network()) and not loaded.training


def test_without_torchscript_the_weights_are_read_all_the_same(
    exported: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def removed(*_: object, **__: object) -> None:
        raise RuntimeError("TorchScript has been removed.")

    monkeypatch.setattr(torch.jit, "load", removed)
    assert same(models.load_exported(exported), tiny_network())
    with refused(f"PyTorch {torch.__version__} cannot load", "TorchScript"):
        models.load_torchscript(exported)


def test_a_missing_file_is_refused(tmp_path: Path, refused: Refused) -> None:
    for load, notebook in (models.load_weights, "1_train"), (models.load_exported, "2_export"):
        with refused(str(tmp_path / "file.pt"), f"run {notebook}"):
            load(tmp_path / "file.pt")


@pytest.mark.parametrize("damage", [lambda whole: b"<html>", lambda whole: whole[: len(whole) // 2]], ids=["text", "truncated"])
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], weights: Path, exported: Path, refused: Refused) -> None:
    for load, path, notebook in (models.load_weights, weights, "1_train"), (models.load_exported, exported, "2_export"):
        path.write_bytes(damage(path.read_bytes()))
        with refused(str(path), "cannot be loaded", notebook):
            load(path)


def test_a_file_of_something_else_is_refused(weights: Path, refused: Refused) -> None:
    with refused("cannot be loaded"):
        models.load_exported(weights)
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, weights)
    with refused("cannot be loaded"):
        models.load_weights(weights)


# ---- the network of a training run


@pytest.fixture
def write_record(home: Path) -> Callable[[str, str], Path]:
    """Writes the record of a step of the run "mine" that names the SHA-256 of weights, and returns the step's folder."""

    def write(step: str, sha256: str) -> Path:
        record = records.Step(step, "mine", {})
        formats = {path.name: {"sha256": records.sha256(path)} for path in record.folder.glob("model.pt")}
        record.write({"weights_sha256": sha256, "formats": formats}, {"dataset": "CIFAR-10"})
        return record.folder

    return write


def test_a_runs_network_is_that_of_its_weights(write_record: Callable[[str, str], Path]) -> None:
    weights = write_record("train/seed3", "not looked at") / "weights.pt"
    torch.save(tiny_network().state_dict(), weights)
    for network, sha256 in trained_network("mine", 3), teacher("mine/3"):
        assert same(network, tiny_network()) and not network.training
        assert sha256 == records.sha256(weights)


def test_without_weights_the_network_is_read_from_the_export_of_the_same_training_run(
    write_record: Callable[[str, str], Path], exported: Path, refused: Refused
) -> None:
    for seed, sha256 in (("seed3", "abc"), ("seed4", "def")):
        write_record(f"train/{seed}", sha256)
    folder = records.step_folder("mine", "export")
    folder.mkdir(parents=True)
    shutil.copy(exported, folder)
    write_record("export", "abc")
    network, sha256 = trained_network("mine", 3)
    assert same(network, tiny_network()) and not network.training
    assert sha256 == "abc"
    with refused("seed4/weights.pt", "run=mine", "seed=4"):
        trained_network("mine", 4)
    (folder / "model.pt").write_bytes(b"made of the int8-quantized network, say")
    with refused("seed3/weights.pt", "run=mine", "seed=3"):
        trained_network("mine", 3)


@pytest.mark.parametrize("seed", [3, 5], ids=["no export", "no training run"])
def test_a_missing_training_run_is_refused(seed: int, write_record: Callable[[str, str], Path], refused: Refused) -> None:
    write_record("train/seed3", "abc")
    with refused(f"seed{seed}/weights.pt", "1_train", "run=mine", f"seed={seed}"):
        trained_network("mine", seed)


@pytest.mark.parametrize("name", ["mine", "mine/", "/3", "mine/three", "../mine/3", 3])
def test_a_name_without_run_and_seed_is_refused(name: object, refused: Refused) -> None:
    with refused(repr(name), "shipped/0"):
        teacher(name)


def test_the_shipped_network_is_that_of_its_export() -> None:
    exported = records.step_folder(records.SHIPPED, "export")
    network, sha256 = trained_network(records.SHIPPED, 0)
    assert sha256 == records.read(exported)["measurements"]["weights_sha256"]
    assert same(network, torch.jit.load(exported / "model.pt"))
