"""Exported files compute the network's logits at any batch size, and have the same bytes wherever they are made."""

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
from helpers import tiny_network

from cifar_bench.engines import export, layers, quantization
from cifar_bench.engines.base import Setup
from cifar_bench.engines.models import load_exported
from cifar_bench.engines.onnx import ONNXRuntime
from cifar_lib import ROOT

EXPORT = """
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
    """Two folders with the exports of the same network, each made by a script in that folder."""
    made, paths = [tmp_path_factory.mktemp(name) for name in ("here", "there")], [str(ROOT), str(ROOT / "tests")]
    for folder in made:
        (folder / "script.py").write_text(EXPORT)
    scripts = [subprocess.Popen([sys.executable, "-W", "ignore", "script.py"], cwd=folder,
                                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) for folder in made]
    assert [script.wait() for script in scripts] == [0, 0]
    return made


@pytest.mark.parametrize("name", export.FORMATS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_file_computes_the_networks_logits(folders: list[Path], name: str, count: int) -> None:
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        reference_logits, logits = tiny_network()(images), LOADERS[name](folders[0] / name)(images)
    assert logits.shape == (count, 10)
    assert (logits - reference_logits).abs().max() <= 1e-5 * reference_logits.abs().max()


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_has_the_same_bytes_wherever_it_is_made_and_no_path_of_the_machine(folders: list[Path], name: str) -> None:
    assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    contents = [(folders[0] / name).read_bytes()]
    if zipfile.is_zipfile(folders[0] / name):
        with zipfile.ZipFile(folders[0] / name) as archive:
            contents += [archive.read(entry) for entry in archive.namelist()]
    names = (b"script.py", os.fsencode(ROOT), os.fsencode(Path(torch.__file__).parent))
    assert not [content for content in contents for name in names if name in content]


def test_a_traced_program_does_not_depend_on_the_flags_of_the_process(tmp_path: Path) -> None:
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=False):
        export.torchscript(tiny_network(), tmp_path / "model.pt")
        assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.allow_tf32
    graph = torch.jit.load(tmp_path / "model.pt").inlined_graph
    convolutions = [list(node.inputs()) for node in graph.findAllNodes("aten::_convolution")]
    written = {tuple(value.toIValue() for value in inputs[9:]) for inputs in convolutions}
    assert written == {(False, False, True, True)}  # benchmark, deterministic, cudnn_enabled, allow_tf32


# ---- files made from model.pt


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_a_missing_file_is_made_from_the_torchscript_with_the_same_bytes(
    name: str, folders: list[Path], tmp_path: Path
) -> None:
    shutil.copy(folders[0] / "model.pt", tmp_path)
    export.make_missing(tmp_path, name)
    assert (tmp_path / name).read_bytes() == (folders[0] / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", name}


def test_the_network_is_made_from_the_int8_quantized_file_where_only_that_is_there(
    folders: list[Path], tmp_path: Path
) -> None:
    images = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    quantization.by_onnxruntime(folders[0] / "model.onnx", images, tmp_path / "model-int8.onnx")
    for name in ("model.pt", "model.onnx"):
        export.make_missing(tmp_path, name)
    exact, rounded, again = tiny_network(), load_exported(tmp_path / "model.pt"), layers.network(tmp_path / "model.onnx")
    with torch.inference_mode():
        reference_logits, logits, same = exact(images), rounded(images), again(images)
    assert 0 < (logits - reference_logits).abs().max() < 0.05 * reference_logits.abs().max()
    assert (same - logits).abs().max() <= 1e-5 * logits.abs().max()
    setup = Setup(tmp_path, tmp_path / "cache", "int8")
    ONNXRuntime.compile(setup)
    assert ONNXRuntime.model_file(setup) == tmp_path / "model-int8.onnx" and not setup.cache.exists()
