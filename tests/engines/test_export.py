"""Exported files compute what the network does, for any number of images, and have the same bytes wherever they are made."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from conftest import Refused
from helpers import tiny_network

from cifar_bench import records
from cifar_bench.engines import export
from cifar_bench.engines.models import teacher, trained_network
from cifar_lib import ROOT

EXPORT = """
import sys
from pathlib import Path
from helpers import tiny_network
from cifar_bench.engines import export
for name, write in export.FORMATS.items():
    write(tiny_network(), Path(name))
"""
LOADERS: dict[str, Callable[[Path], Callable[[torch.Tensor], torch.Tensor]]] = {
    "model.pt": torch.jit.load,
    "model.pt2": lambda path: torch.export.load(path).module(),
    "model.onnx": lambda path: lambda images: torch.from_numpy(
        onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders with the exports of the same network, each made by a script of its own that lies there."""
    made, paths = [tmp_path_factory.mktemp(name) for name in ("here", "there")], [str(ROOT), str(ROOT / "tests")]
    for folder in made:
        (folder / "script.py").write_text(EXPORT)
    scripts = [subprocess.Popen([sys.executable, "-W", "ignore", "script.py"], cwd=folder,
                                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) for folder in made]
    assert [script.wait() for script in scripts] == [0, 0]
    return made


@pytest.mark.parametrize("name", export.FORMATS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_file_computes_what_the_network_does(folders: list[Path], name: str, count: int) -> None:
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        reference_logits, logits = tiny_network()(images), LOADERS[name](folders[0] / name)(images)
    assert logits.shape == (count, 10)
    assert (logits - reference_logits).abs().max() <= 1e-5 * reference_logits.abs().max()


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_has_the_same_bytes_wherever_it_was_made(folders: list[Path], name: str) -> None:
    assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_names_no_folder_of_the_machine(folders: list[Path], name: str) -> None:
    contents = [(folders[0] / name).read_bytes()]
    if zipfile.is_zipfile(folders[0] / name):
        with zipfile.ZipFile(folders[0] / name) as archive:
            contents += [archive.read(entry) for entry in archive.namelist()]
    names = (b"script.py", os.fsencode(ROOT), os.fsencode(Path(torch.__file__).parent))
    assert not [content for content in contents for name in names if name in content]


def test_a_traced_program_is_the_same_whatever_the_process_has_set(tmp_path: Path) -> None:
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=False):
        export.torchscript(tiny_network(), tmp_path / "model.pt")
        assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.allow_tf32
    graph = torch.jit.load(tmp_path / "model.pt").inlined_graph
    convolutions = [list(node.inputs()) for node in graph.findAllNodes("aten::_convolution")]
    written = {tuple(value.toIValue() for value in inputs[9:]) for inputs in convolutions}
    assert written == {(False, False, True, True)}  # benchmark, deterministic, cudnn_enabled, allow_tf32


# ---- files that are made when they are needed


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_a_missing_file_is_made_from_the_torchscript_with_the_same_bytes(
    name: str, folders: list[Path], tmp_path: Path
) -> None:
    shutil.copy(folders[0] / "model.pt", tmp_path)
    export.make_missing(tmp_path, name)
    assert (tmp_path / name).read_bytes() == (folders[0] / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", name}


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_that_is_there_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"made before")
    export.make_missing(tmp_path, name)
    assert (tmp_path / name).read_bytes() == b"made before"


@pytest.mark.parametrize("name", export.FORMATS)
def test_without_a_torchscript_nothing_is_made(name: str, tmp_path: Path, refused: Refused) -> None:
    with refused(str(tmp_path / "model.pt"), "2_export"):
        export.make_missing(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_says_what_could_not_be_made_and_leaves_nothing(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def fail(network: torch.nn.Module, path: Path) -> None:
        with records.replacing(path) as scratch:
            scratch.write_bytes(b"half")
            raise ValueError("an operation is missing")

    shutil.copy(folders[0] / "model.pt", tmp_path)
    monkeypatch.setitem(export.FORMATS, "model.onnx", fail)
    with refused("model.onnx", "from model.pt", "an operation is missing"):
        export.make_missing(tmp_path, "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


# ---- the network of a training


@pytest.fixture
def write_record(home: Path) -> Callable[[str, str], Path]:
    """Writes the record of a step of the run "mine" that names the SHA-256 of weights, and returns the step's folder."""

    def write(step: str, sha256: str) -> Path:
        record = records.Step(step, "mine", {})
        record.write({"weights_sha256": sha256}, {"dataset": "CIFAR-10"})
        return record.folder

    return write


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = network.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_runs_network_is_that_of_its_weights(write_record: Callable[[str, str], Path]) -> None:
    weights = write_record("train/seed3", "not looked at") / "weights.pt"
    torch.save(tiny_network().state_dict(), weights)
    network, sha256 = trained_network("mine", 3)
    assert same(network, tiny_network()) and not network.training
    assert sha256 == records.sha256(weights)


def test_without_weights_the_network_is_read_from_the_export_of_that_training(
    write_record: Callable[[str, str], Path], folders: list[Path]
) -> None:
    write_record("train/seed3", "abc")
    shutil.copy(folders[0] / "model.pt", write_record("export", "abc"))
    network, sha256 = trained_network("mine", 3)
    assert same(network, tiny_network()) and not network.training
    assert sha256 == "abc"


def test_the_export_of_another_seed_does_not_synthetic(
    write_record: Callable[[str, str], Path], folders: list[Path], refused: Refused
) -> None:
    for seed, sha256 in (("seed3", "abc"), ("seed4", "def")):
        write_record(f"train/{seed}", sha256)
    shutil.copy(folders[0] / "model.pt", write_record("export", "abc"))
    with refused("seed4/weights.pt", "run=mine", "seed=4"):
        trained_network("mine", 4)


@pytest.mark.parametrize("seed", [3, 5], ids=["no export", "no training"])
def test_a_training_that_was_not_run_is_refused(
    seed: int, write_record: Callable[[str, str], Path], refused: Refused
) -> None:
    write_record("train/seed3", "abc")
    with refused(f"seed{seed}/weights.pt", "1_train", "run=mine", f"seed={seed}"):
        trained_network("mine", seed)


@pytest.mark.parametrize("name", ["mine", "mine/", "/3", "mine/three", "../mine/3", "mine/-1", 3, None])
def test_what_names_no_training_is_refused(name: object, refused: Refused) -> None:
    with refused(repr(name), "shipped/0"):
        teacher(name)


def test_a_training_is_named_by_its_run_and_seed(write_record: Callable[[str, str], Path]) -> None:
    torch.save(tiny_network().state_dict(), write_record("train/seed3", "not looked at") / "weights.pt")
    assert same(teacher("mine/3")[0], tiny_network())


def test_the_shipped_network_is_that_of_its_export() -> None:
    exported = records.step_folder(records.SHIPPED, "export")
    network, sha256 = trained_network(records.SHIPPED, 0)
    assert sha256 == records.read(exported)["measurements"]["weights_sha256"]
    assert same(network, torch.jit.load(exported / "model.pt"))


def test_the_shipped_run_has_the_weights_of_one_seed_only(refused: Refused) -> None:
    with refused("seed1/weights.pt", "seed=1"):
        trained_network(records.SHIPPED, 1)
