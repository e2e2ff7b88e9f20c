"""The C++ program: it builds, predicts the same classes as Python, and refuses bad input with one sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused
from helpers import export_all, tiny_network

from cifar_bench import records
from cifar_bench.engines import ENGINES, infer, layers, models
from cifar_bench.engines.base import Setup
from cifar_bench.engines.executorch import ExecuTorch
from cifar_bench.records import environment
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
    """Images of random pixels, labeled with the predictions of `tiny_network`."""
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


def test_its_classes_on_test_images_are_those_of_python(cifar10: Path, program: Path) -> None:
    shipped = records.step_folder(records.SHIPPED, "export") / "model.pt"
    test = data.load("test").first(2000)
    expected = model.predict(models.load_torchscript(shipped).eval(), test).argmax(1).numpy()
    # One thread: several would wait for each other on a contended machine.
    measured = infer.run(shipped, test, logits=0, threads=1, options=["frozen", "channels-last"])
    assert len(set(expected)) == 10
    assert np.array_equal(measured["classes"], expected)


def test_it_measures_every_image(exported: Path, test_split: data.Split) -> None:
    measured = infer.run(exported / "model.pt", test_split, logits=IMAGES - 1, warmup=7)
    assert measured["ns"].dtype == measured["warmup_ns"].dtype == np.int64 and measured["classes"].dtype == np.uint8
    assert (len(measured["ns"]), len(measured["classes"]), len(measured["warmup_ns"])) == (IMAGES, IMAGES, 7)
    assert (measured["ns"] > 0).all() and (measured["warmup_ns"] > 0).all()
    assert measured["load_ns"] > 0 and np.isfinite([measured["background_cores"], measured["stopped_cores"]]).all()
    reference_logits = model.predict(tiny_network(), test_split.first(IMAGES - 1)).numpy()
    assert measured["logits"].shape == reference_logits.shape
    assert np.abs(measured["logits"] - reference_logits).max() <= 1e-5 * np.abs(reference_logits).max()


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.layers", "model.pte"])
def test_it_prints_accuracy_and_time_as_the_original_did(name: str, program: Path, exported: Path, images_file: Path) -> None:
    if name == "model.layers":
        layers.write(exported / "model.onnx", exported / name)
    elif name == "model.pte":
        setup = Setup(exported, exported)
        ExecuTorch.compile(setup)
        ExecuTorch.model_file(setup).replace(exported / name)
    command = [program, "--model", exported / name, "--data", images_file, "--images", str(IMAGES)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0] == "accuracy: 100%"
    assert printed[1].startswith("time: ") and printed[1].endswith(" µs per image")


def test_its_path_is_printed(program: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "cifar_bench.engines.infer"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{program}\n"


# ---- what it refuses


def refusal(program: Path, arguments: dict[str, object]) -> str:
    """The first line of what the program says as it refuses these arguments."""
    command = [program, *(str(word) for pair in arguments.items() for word in pair)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1 and process.stdout == ""
    return process.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--model": ""}, "--model is needed"),
        ({"--model": "nowhere.pt"}, "there is no model at nowhere.pt."),
        ({"--model": __file__}, f"{__file__} cannot be loaded"),
        ({"--data": "nowhere.bin"}, "there is no data file at nowhere.bin."),
        ({"--data": __file__}, f"{__file__} is not in CIFAR-10's binary format (a label is 34): name a batch file"),
        ({"--images": IMAGES + 1}, "has only 30 of 31 images."),
        ({"--images": 0}, "--images must be an integer of at least 1, not 0."),
        ({"--images": "1e3"}, "--images must be an integer of at least 1, not 1e3."),
        ({"--precision": "int4"}, "--precision must be float32, float16 or bfloat16, not int4."),
        ({"--device": "tpu"}, "--device must be cpu or cuda, not tpu."),
        ({"--options": "frozen,fast"}, "--options are frozen, optimize_for_inference and channels-last, not fast."),
        ({"--color": "red"}, "unknown argument --color."),
    ],
)
def test_bad_arguments_are_refused(program: Path, exported: Path, images_file: Path, change: dict, words: str) -> None:
    arguments = {"--model": exported / "model.pt", "--data": images_file, "--images": IMAGES, **change}
    assert words in refusal(program, arguments)


@pytest.mark.parametrize(("content", "precision", "words"), [
    (b"no arrays", "float32", "cannot be loaded"),
    ({"weight0": torch.ones(2, 3, 3, 3)}, "float32", "it has no bias0."),
    ({"input_scale": torch.ones(1)}, "bfloat16", "its weights are int8-quantized."),
])
def test_bad_layers_are_refused(
    program: Path, images_file: Path, tmp_path: Path, content: bytes | dict, precision: str, words: str
) -> None:
    path = tmp_path / "model.layers"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    line = refusal(program, {"--model": path, "--data": images_file, "--images": 1, "--precision": precision})
    assert line.startswith(f"{path} cannot be loaded as a network: ") and words in line


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr(infer, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "compiler", lambda: None)
    for name in ("torchscript-cpp", "compile", "aotinductor"):
        with refused("no C++ compiler was found", "apt install g++"):
            ENGINES[name].check(Setup(tmp_path, tmp_path))
    with refused("compiler", "g++"):
        infer.build()


def test_flags_in_cxx_and_scripts_around_the_compiler_are_another_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_compiler: None
) -> None:
    found, wrapper = [environment.compiler()], tmp_path / "c++"
    for flags in ("-O0", "-O1"):
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("c++")} {flags} "$@"\n')
        wrapper.chmod(0o755)
        for command in (f"c++ {flags}", str(wrapper)):
            monkeypatch.setenv("CXX", command)
            environment.compiler.cache_clear()
            found.append(environment.compiler())
    environment.compiler.cache_clear()
    assert len(set(found)) == 5 and None not in found


def test_another_compiler_builds_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def call(*command: object) -> None:
        if "-B" in command:
            built.append(Path(command[command.index("-B") + 1]))
            (built[-1] / "probe").touch()

    monkeypatch.setattr(infer, "ROOT", tmp_path)
    monkeypatch.setattr(infer, "call", call)
    for version in ("g++ 12", "g++ 13", "g++ 12"):
        monkeypatch.setattr(infer, "compiler", lambda version=version: version)
        infer.build("probe")
    assert len(list((tmp_path / "build").iterdir())) == 2
    assert [folder.parent for folder in built] == 2 * [tmp_path / "build"]


def test_a_failed_build_gives_the_compilers_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(infer.SOURCES, sources)
    for name in ("infer.cpp", "executorch.cpp", "onednn.cpp", "openvino.cpp"):
        (sources / name).write_text("int main() { return nonsense; }")
    monkeypatch.setattr(infer, "ROOT", tmp_path)
    monkeypatch.setattr(infer, "SOURCES", sources)
    with refused("nonsense"):
        infer.build()
    assert list((tmp_path / "build").iterdir()) == []
