"""Exported files compute what the network does, for any number of images, and have the same bytes wherever they are made."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from test_engines import tiny_network

from cifar_lib import ROOT, export

EXPORT = """
import sys
from pathlib import Path
from test_engines import tiny_network
from cifar_lib import export
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
    made = []
    for name in ("here", "there"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "script.py").write_text(EXPORT)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        subprocess.run([sys.executable, "-W", "ignore", "script.py"], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
                       check=True)
        made.append(folder)
    return made


@pytest.mark.parametrize("name", export.FORMATS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_file_computes_what_the_network_does(folders: list[Path], name: str, count: int) -> None:
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, logits = tiny_network()(images), LOADERS[name](folders[0] / name)(images)
    assert logits.shape == (count, 10)
    assert (logits - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_has_the_same_bytes_wherever_it_was_made(folders: list[Path], name: str) -> None:
    assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_file_names_no_folder_of_the_machine(folders: list[Path], name: str) -> None:
    contents = [(folders[0] / name).read_bytes()]
    if zipfile.is_zipfile(folders[0] / name):
        with zipfile.ZipFile(folders[0] / name) as archive:
            contents += [archive.read(entry) for entry in archive.namelist()]
    told = (b"script.py", os.fsencode(ROOT), os.fsencode(Path(torch.__file__).parent))
    assert not [content for content in contents for word in told if word in content]
