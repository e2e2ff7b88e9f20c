"""The file of the winning network, engine and precision is kept."""

import hashlib
from pathlib import Path

import pytest

from cifar_bench.timing import networks

ROW = {"engine": "openvino-cpp", "precision": "int8", "device": "cpu", "threads": 1, "options": "", "network": ""}


def test_the_winners_file_is_the_one_that_its_engine_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model-int8.onnx").write_bytes(b"onnx")
    (tmp_path / "model-int8.layers").write_bytes(b"layers")
    monkeypatch.setattr(networks, "cache_folder", lambda exported: tmp_path)
    faster = tmp_path / "faster"
    networks.keep_file(ROW | {"engine": "onednn-cpp"}, tmp_path / "export", faster)
    kept = networks.keep_file(ROW, tmp_path / "export", faster)
    assert kept == {"file": "winner.onnx", "bytes": 4, "sha256": hashlib.sha256(b"onnx").hexdigest()}
    assert (faster / "winner.onnx").read_bytes() == b"onnx"
    assert [path.name for path in faster.iterdir()] == ["winner.onnx"]  # the earlier winner's file is removed
