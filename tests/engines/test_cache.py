"""The files that engines compile are made once for each model, machine and version of the code, and never left half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Refused
from helpers import export_all, tiny_network
from onnxruntime import quantization

from cifar_bench.engines import ENGINES, base, export, predict
from cifar_bench.engines.base import Setup, cache_folder
from cifar_bench.engines.pytorch import AOTInductor
from cifar_lib import data


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tiny_network(), tmp_path_factory.mktemp("exported"))


# ---- the folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the clone."""
    monkeypatch.setattr(base, "ROOT", tmp_path)
    return tmp_path


def test_the_same_model_has_the_same_folder_wherever_it_lies(root: Path, exported: Path) -> None:
    copy = root / "copy"
    copy.mkdir()
    shutil.copy(exported / "model.pt", copy)
    folder = cache_folder(exported)
    assert folder.is_dir() and folder.parent == root / "build" / "compiled"
    (folder / "a file").touch()
    assert cache_folder(copy) == folder
    assert [path.name for path in folder.iterdir()] == ["a file"]


def test_a_folder_that_cannot_be_written_is_named(root: Path, exported: Path, refused: Refused) -> None:
    (root / "build").write_text("a file, or a folder of another user")
    with refused(str(root / "build"), "cannot be written"):
        cache_folder(exported)


def test_another_model_has_another_folder(root: Path, exported: Path) -> None:
    network = tiny_network()
    with torch.no_grad():
        network.linear.weight[0, 0] += 1
    export.torchscript(network, root / "model.pt")
    assert cache_folder(root) != cache_folder(exported)


@pytest.mark.parametrize("changed", ["code", "hardware", "features", "compiler", "data",
                                     *base.LIBRARIES])
def test_other_code_hardware_data_or_libraries_have_another_folder(
    changed: str, root: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = cache_folder(exported), base.metadata.version
    if changed == "code":
        sources = shutil.copytree(Path(base.__file__).parent, root / "engines")
        monkeypatch.setattr(base, "__file__", str(sources / "base.py"))
        assert cache_folder(exported) == before  # the folder of the code does not matter
        with (sources / "quantization.py").open("a") as source:
            source.write("# changed")
    elif changed == "hardware":
        monkeypatch.setattr(base, "hardware", lambda device: "another processor")
    elif changed == "features":  # of the same name and widest vectors: VNNI, say
        monkeypatch.setattr(base, "cpu_features", lambda: ["another"])
    elif changed == "compiler":
        monkeypatch.setattr(base, "compiler", lambda: "another compiler")
    elif changed == "data":
        real = base.cifar10.location() != base.cifar10.SYNTHETIC
        monkeypatch.setattr(base.cifar10, "location", lambda: base.cifar10.SYNTHETIC if real else "a folder")
    else:
        monkeypatch.setattr(base.metadata, "version", lambda name: "0.1" if name == changed else version(name))
    assert cache_folder(exported) != before


# ---- its files


Fake = Callable[[Path], None]


@pytest.fixture(params=["aotinductor", "onnxruntime"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, Callable[[Fake], None]]:
    """An engine, its precision, and a function that replaces the engine's compiler by a function of the file to write."""
    name = request.param
    images = data.Split(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda part: images)

    def replace_by(fake: Fake) -> None:
        def package(program: torch.export.ExportedProgram, package_path: str, inductor_configs: dict) -> str:
            fake(Path(package_path))
            return package_path

        if name == "aotinductor":
            monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", package)
        else:
            monkeypatch.setattr(quantization, "quantize_static", lambda model, path, *_, **__: fake(Path(path)))

    return name, {"aotinductor": "float32", "onnxruntime": "int8"}[name], replace_by


def test_a_file_is_compiled_once(compiler: tuple[str, str, Callable[[Fake], None]], exported: Path, tmp_path: Path) -> None:
    name, precision, replace_by = compiler
    setup, made = Setup(exported, tmp_path, precision), []
    replace_by(lambda path: made.append(path) or path.write_bytes(b"compiled"))
    for _ in range(2):
        ENGINES[name].compile(setup)
    assert len(made) == 1
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"compiled"]
    assert ENGINES[name].model_file(setup).is_file()


def test_a_failed_compilation_leaves_nothing_half_written(
    compiler: tuple[str, str, Callable[[Fake], None]], exported: Path, tmp_path: Path, refused: Refused
) -> None:
    name, precision, replace_by = compiler

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("the compiler was killed")

    replace_by(fail)
    with refused("the compiler was killed"):
        ENGINES[name].compile(Setup(exported, tmp_path, precision))
    assert list(tmp_path.iterdir()) == []


def test_every_device_precision_batch_size_and_number_of_threads_has_a_file(exported: Path, tmp_path: Path) -> None:
    setups = [Setup(exported, tmp_path, *changes) for changes in (
        ("float32", "cpu", 1, 1), ("bfloat16", "cpu", 1, 1), ("float32", "cuda", 1, 1), ("float32", "cpu", 2, 1),
        ("float32", "cpu", 1, 2))]
    assert len({ENGINES["aotinductor"].model_file(setup) for setup in setups}) == len(setups)


def test_the_file_that_is_timed_is_scored(root: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(AOTInductor, "compile", lambda setup: compiled.append(AOTInductor.model_file(setup)))
    monkeypatch.setattr(AOTInductor, "__init__", lambda self, setup: None)
    monkeypatch.setattr(AOTInductor, "logits", lambda self, images: torch.zeros(len(images), 10))
    setup = Setup(exported, root, threads=1)
    assert predict("aotinductor-cpp", setup, torch.zeros(3, 3, 32, 32, dtype=torch.uint8)).shape == (3, 10)
    assert compiled == [AOTInductor.model_file(setup)]
