"""Weights and exported files are loaded as the network they hold, or refused."""

from pathlib import Path

import pytest
import torch
from conftest import Refused
from helpers import tiny_network

from cifar_bench.engines import models


def test_weights_can_be_saved_and_loaded(tmp_path: Path) -> None:
    network = tiny_network()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = models.load_weights(tmp_path / "weights.pt")
    x = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(x), network(x))


def test_missing_files_are_refused(tmp_path: Path, refused: Refused) -> None:
    with refused(str(tmp_path / "weights.pt"), "run 1_train"):
        models.load_weights(tmp_path / "weights.pt")
    with refused(str(tmp_path / "model.pt"), "run 2_export"):
        models.load_exported(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_something_else_in_the_place_of_a_file_is_refused(tmp_path: Path, refused: Refused, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    for load, notebook in ((models.load_weights, "1_train"), (models.load_exported, "2_export")):
        with refused(str(path), "cannot be loaded", notebook):
            load(path)


@pytest.mark.parametrize("thing", [{"conv1.weight": torch.zeros(4, 3, 3, 3)}, torch.zeros(3), tiny_network()])
def test_something_else_than_this_networks_weights_is_refused(tmp_path: Path, refused: Refused, thing: object) -> None:
    torch.save(thing, tmp_path / "weights.pt")
    with refused("cannot be loaded"):
        models.load_weights(tmp_path / "weights.pt")


def test_truncated_weights_are_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tiny_network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with refused(str(path)):
        models.load_weights(path)
