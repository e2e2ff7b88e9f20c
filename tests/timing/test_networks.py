"""What is kept of the network, engine and precision that won."""

import hashlib
from pathlib import Path

import pytest

from cifar_bench.timing import networks

ROW = {"engine": "openvino-cpp", "precision": "int8", "device": "cpu", "threads": 1, "options": "", "network": ""}


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which what engines make of any exported model lies: a quantized model, and the layers of one."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "model-int8.onnx").write_bytes(b"onnx")
    (folder / "model-int8.layers").write_bytes(b"layers")
    monkeypatch.setattr(networks, "cache_folder", lambda exported: folder)
    return folder


def test_the_winners_file_is_the_very_one_that_its_engine_loads(tmp_path: Path, cache: Path) -> None:
    kept = networks.keep_file(ROW, tmp_path / "export", tmp_path / "faster")
    assert (tmp_path / "faster" / kept["file"]).read_bytes() == b"onnx"
    assert kept == {"file": "winner.onnx", "bytes": 4, "sha256": hashlib.sha256(b"onnx").hexdigest()}


def test_the_file_of_an_earlier_winner_goes(tmp_path: Path, cache: Path) -> None:
    for row in (ROW, ROW | {"engine": "onednn-cpp"}):
        networks.keep_file(row, tmp_path / "export", tmp_path / "faster")
    assert [path.name for path in (tmp_path / "faster").iterdir()] == ["winner.layers"]
