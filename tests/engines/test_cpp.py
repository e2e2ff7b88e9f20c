"""The C++ program: it builds, says the classes that Python says, and refuses bad input with one sentence."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused
from helpers import export_all, tiny_network

from cifar_bench import records
from cifar_bench.engines import base, infer, layers
from cifar_lib import data, model

IMAGES = 30


@pytest.fixture(scope="module")
def program() -> Path:
    return infer.build()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tiny_network(), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def test_split() -> data.Split:
    """Images of random pixels, as many labels as images being what `tiny_network` says."""
    images = 255 * torch.randint(2, (IMAGES, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = data.Split(images, torch.zeros(IMAGES, dtype=torch.int64), {})
    return data.Split(images, model.predict(tiny_network(), split).argmax(1), {})


@pytest.fixture(scope="module")
def images_file(test_split: data.Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images in CIFAR-10's binary format."""
    path = tmp_path_factory.mktemp("images") / "test_batch.bin"
    path.write_bytes(b"".join(bytes([label]) + image.numpy().tobytes() for label, image in zip(
        test_split.labels.tolist(), test_split.images)))
    return path


def test_its_classes_are_pythons_on_test_images(cifar10: Path, program: Path) -> None:
    shipped = records.step_folder(records.SHIPPED, "export") / "model.pt"
    test = data.load("test").first(2000)
    expected = model.predict(base.load_torchscript(shipped).eval(), test).argmax(1).numpy()
    # One thread: several would wait for each other where others compute beside them.
    measured = infer.run(shipped, test, threads=1, options=["frozen", "channels-last"])
    assert len(set(expected)) == 10
    assert np.array_equal(measured["classes"], expected)


def test_it_gives_a_number_for_every_image(exported: Path, test_split: data.Split) -> None:
    measured = infer.run(exported / "model.pt", test_split, warmup=7)
    assert measured["ns"].dtype == measured["warmup_ns"].dtype == np.int64 and measured["classes"].dtype == np.uint8
    assert (len(measured["ns"]), len(measured["classes"]), len(measured["warmup_ns"])) == (IMAGES, IMAGES, 7)
    assert (measured["ns"] > 0).all() and (measured["warmup_ns"] > 0).all()
    assert measured["load_ns"] > 0 and measured["involuntary_switches"] >= 0


def test_its_logits_are_the_networks(exported: Path, test_split: data.Split) -> None:
    reference_logits = model.predict(tiny_network(), test_split).numpy()
    logits = infer.run(exported / "model.pt", test_split)["logits"]
    assert logits.shape == reference_logits.shape
    assert np.abs(logits - reference_logits).max() <= 1e-5 * np.abs(reference_logits).max()


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.layers"])
def test_it_prints_accuracy_and_time_as_the_originals_did(name: str, program: Path, exported: Path, images_file: Path) -> None:
    if name == "model.layers":
        if not infer.onednn():
            pytest.skip("needs oneDNN: apt-get install libdnnl-dev")
        layers.write(exported / "model.onnx", exported / name)
    command = [program, "--model", exported / name, "--data", images_file, "--images", str(IMAGES)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0] == "accuracy: 100%"
    assert printed[1].startswith("time: ") and printed[1].endswith(" µs per image")


def test_its_path_is_printed_for_those_who_use_it_by_itself(program: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "cifar_bench.engines.infer"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{program}\n"


def test_a_program_that_is_there_is_not_built_again(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "_call", lambda *_: pytest.fail("it was built again"))
    assert infer.build() == program


# ---- what it refuses


def without(name: str) -> Callable[[dict], None]:
    return lambda arguments: arguments.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("--model"), "--model is needed"),
        (without("--data"), "--data is needed"),
        ({"--model": "nowhere.pt"}, "there is no model at nowhere.pt."),
        ({"--data": "nowhere.bin"}, "there is no data file at nowhere.bin."),
        ({"--data": __file__}, f"{__file__} is not in CIFAR-10's binary format (a label is 34): name a batch file"),
        ({"--model": __file__}, f"{__file__} cannot be loaded"),
        ({"--images": "31"}, "holds 30 images, fewer than the 31 asked for."),
        ({"--images": "0"}, "--images must be a whole number of at least 1, not 0."),
        ({"--images": "1e3"}, "--images must be a whole number of at least 1, not 1e3."),
        ({"--warmup": "-1"}, "--warmup must be a whole number of at least 0, not -1."),
        ({"--logits": "-1"}, "--logits must be a whole number of at least 0, not -1."),
        ({"--precision": "int4"}, "--precision must be float32, float16 or bfloat16, not int4."),
        ({"--device": "tpu"}, "--device must be cpu or cuda, not tpu."),
        ({"--colour": "red"}, "unknown argument --colour."),
    ],
)
def test_bad_arguments_are_refused(
    program: Path, exported: Path, images_file: Path, change: dict | Callable[[dict], None], words: str
) -> None:
    arguments = {"--model": str(exported / "model.pt"), "--data": str(images_file), "--images": str(IMAGES)}
    if callable(change):
        change(arguments)
    else:
        arguments.update(change)
    process = subprocess.run([program, *(word for pair in arguments.items() for word in pair)], capture_output=True, text=True)
    assert process.returncode == 1 and process.stdout == ""
    assert words in process.stderr.splitlines()[0]


@pytest.mark.skipif(not infer.onednn(), reason="needs oneDNN: apt-get install libdnnl-dev")
@pytest.mark.parametrize(("content", "precision", "words"), [
    (b"no arrays", "float32", "cannot be loaded"),
    ({"weight0": torch.ones(2, 3, 3, 3)}, "float32", "it has no bias0."),
    ({"weight0": torch.ones(2, 3, 3, 3)}, "int8", "it has no input_scale."),
    ({"input_scale": torch.ones(1)}, "bfloat16", "its weights are in 8 bits."),
    ({}, "float16", "--precision must be float32, bfloat16 or int8, not float16."),
])
def test_layers_of_something_else_are_refused(
    program: Path, images_file: Path, tmp_path: Path, content: bytes | dict, precision: str, words: str
) -> None:
    path = tmp_path / "model.layers"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    process = subprocess.run([program, "--model", path, "--data", images_file, "--images", "1", "--precision", precision],
                             capture_output=True, text=True)
    assert process.returncode == 1 and process.stdout == ""
    line, = process.stderr.splitlines()
    assert line.startswith(f"{path} cannot be loaded as a network: ") and words in line


def test_without_a_compiler_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(infer, "ROOT", tmp_path)
    monkeypatch.setattr(infer, "COMPILERS", ("no-compiler",))
    monkeypatch.delenv("CXX", raising=False)
    with refused("compiler", "g++"):
        infer.build()


def test_a_source_that_does_not_compile_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(infer.SOURCES, sources)
    for name in ("infer.cpp", "onednn.cpp", "openvino.cpp"):
        (sources / name).write_text("int main() { return nonsense; }")
    monkeypatch.setattr(infer, "ROOT", tmp_path)
    monkeypatch.setattr(infer, "SOURCES", sources)
    with refused("nonsense"):
        infer.build()
    assert not (tmp_path / "build").exists()
