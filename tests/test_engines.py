"""Every engine, in every precision, gives the network's classes, and bad model files are refused."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Refused

from cifar_lib.engines import ENGINES, PRECISIONS, load_torchscript, native_support
from cifar_lib.model import ResNet9, save_torchscript

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def tiny_network() -> ResNet9:
    """An untrained network in eval mode, with batch-norm statistics of its own, that finds several classes in noise."""
    torch.manual_seed(0)
    network = ResNet9([2, 4, 8, 16]).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(layer.running_var, 0.1, 0.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, -1, 0.5)
    return network


def save_traced(network: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        save_torchscript(torch.jit.trace(network, torch.rand(1, 3, 32, 32)), path)
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_traced(tiny_network(), tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    """30 random images of 4×4 coloured squares, each 1×3×32×32."""
    squares = 3 * torch.randn(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return list(squares.repeat_interleave(8, 2).repeat_interleave(8, 3).split(1))


@pytest.fixture(scope="module")
def expected(images: list[torch.Tensor]) -> list[int]:
    with torch.inference_mode():
        classes = tiny_network()(torch.cat(images)).argmax(1).tolist()
    assert len(set(classes)) >= 3  # or an engine that always gives one class would pass
    return classes


# ---- classes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ENGINES)
def test_float32_gives_the_networks_classes(
    name: str, device: str, model_file: Path, images: list[torch.Tensor], expected: list[int]
) -> None:
    engine = ENGINES[name](model_file, "float32", device)
    assert [engine.classify(image) for image in images] == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ENGINES)
def test_half_precision_gives_most_of_the_networks_classes(
    name: str, precision: str, device: str, model_file: Path, images: list[torch.Tensor], expected: list[int]
) -> None:
    engine = ENGINES[name](model_file, precision, device)
    same = sum(engine.classify(image) == right for image, right in zip(images, expected, strict=True))
    assert same >= 25


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_computes_in_its_precision(precision: str, model_file: Path) -> None:
    weights = list(ENGINES["eager"](model_file, precision, "cpu").network.parameters())
    assert {weight.dtype for weight in weights} == {PRECISIONS[precision]}


@pytest.mark.parametrize("name", ENGINES)
def test_classifying_leaves_the_image_as_it_was(name: str, model_file: Path, images: list[torch.Tensor]) -> None:
    before = images[0].clone()
    ENGINES[name](model_file, "float16", "cpu").classify(images[0])
    assert torch.equal(images[0], before)


# ---- bad files


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_model_is_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    with refused("model.pt", "2_export"):
        ENGINES[name](tmp_path / "model.pt", "float32", "cpu")


@pytest.mark.parametrize(
    "damage",
    [lambda whole: b"", lambda whole: b"a model", lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-10]],
    ids=["empty", "text", "half of it", "its end missing"],
)
def test_a_damaged_model_is_refused(
    damage: Callable[[bytes], bytes], model_file: Path, tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(damage(model_file.read_bytes()))
    with refused("model.pt", "2_export"):
        load_torchscript(path)


def test_weights_are_no_model(tmp_path: Path, refused: Refused) -> None:
    torch.save(tiny_network().state_dict(), tmp_path / "weights.pt")
    with refused("weights.pt", "2_export"):
        load_torchscript(tmp_path / "weights.pt")


# ---- what the machine computes itself


@pytest.mark.parametrize(
    ("environment", "native"),
    [
        ({"gpu": None, "cpu": {"features": ["avx2", "avx512f"]}}, {"float32"}),
        ({"gpu": None, "cpu": {"features": ["avx512_bf16"]}}, {"float32", "bfloat16"}),
        ({"gpu": None, "cpu": {"features": ["avx512_fp16"]}}, {"float32", "float16"}),
        ({"gpu": None, "cpu": {"features": ["amx_bf16", "avx512_fp16"]}}, {"float32", "float16", "bfloat16"}),
        ({"gpu": {"compute_capability": [5, 2]}, "cpu": {"features": ["avx512_fp16", "avx512_bf16"]}}, {"float32"}),
        ({"gpu": {"compute_capability": [6, 0]}, "cpu": {"features": []}}, {"float32", "float16"}),
        ({"gpu": {"compute_capability": [7, 5]}, "cpu": {"features": []}}, {"float32", "float16"}),
        ({"gpu": {"compute_capability": [8, 0]}, "cpu": {"features": []}}, {"float32", "float16", "bfloat16"}),
    ],
    ids=["old CPU", "CPU with bf16", "CPU with fp16", "CPU with both", "Maxwell on a new CPU", "Pascal", "Turing", "Ampere"],
)
def test_native_support_follows_from_the_hardware(environment: dict, native: set[str]) -> None:
    assert {precision for precision in PRECISIONS if native_support(precision, environment) == "native"} == native
