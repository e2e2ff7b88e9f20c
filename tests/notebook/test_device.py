"""A device is one that PyTorch can use here, or refused with those allowed."""

import pytest
import torch
from conftest import Refused

from cifar_bench.notebook.parameters import device_or_error


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "CPU", ""])
def test_unknown_device_is_refused_with_those_allowed(refused: Refused, name: str) -> None:
    with refused(repr(name), "'auto'", "'cpu'", "'cuda'"):
        device_or_error(name)


def test_gpu_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("'cuda'", "'cpu'"):
        device_or_error("cuda")


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has_gpu: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert device_or_error("auto") == device
