"""Every engine, in every precision, predicts the network's classes with the options that it names, or is refused."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from conftest import Refused
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.extension.pybindings import portable_lib
from helpers import export_all, tiny_network
from onnx import numpy_helper

from cifar_bench.engines import ENGINES, infer, predict, pytorch
from cifar_bench.engines.base import PRECISIONS, Setup
from cifar_bench.engines.cpp import CppEngine
from cifar_bench.engines.models import load_torchscript
from cifar_bench.engines.pytorch import Eager
from cifar_lib import InputError, data
from cifar_lib.data import Split, normalize

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tiny_network(), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def squares(count: int, seed: int) -> torch.Tensor:
    """Random images of 4×4 squares in pure colors, uint8 count×3×32×32."""
    colors = 255 * torch.randint(2, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return colors.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    """30 images, each 1×3×32×32, normalized."""
    return list(normalize(squares(30, seed=0)).split(1))


@pytest.fixture(scope="module")
def expected(images: list[torch.Tensor]) -> list[int]:
    with torch.inference_mode():
        classes = tiny_network()(torch.cat(images)).argmax(1).tolist()
    assert len(set(classes)) >= 3  # or an engine that always predicts one class would pass
    return classes


@pytest.fixture(autouse=True)
def training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that calibrate quantization: others of the same kind."""
    monkeypatch.setattr(data, "load", lambda part: Split(squares(500, seed=1), torch.zeros(500, dtype=torch.int64), {}))


# ---- classes


def classes_of(name: str, setup: Setup, images: list[torch.Tensor]) -> list[int]:
    """The class that an engine predicts for each image; `images` must be those of whole pixel values."""
    kind = ENGINES[name]
    kind.compile(setup)
    engine = kind(setup)
    if isinstance(engine, CppEngine):
        pixels = ((torch.cat(images) * 0.25 + 0.5) * 255).round().to(torch.uint8)
        return engine.measure(Split(pixels, torch.zeros(len(images), dtype=torch.int64), {}), warmup=0)["classes"].tolist()
    return [engine.classify(image) for image in images]


COMBINATIONS = [
    pytest.param(name, precision, device, id=f"{name}, {precision}, {device}")
    for name, engine in ENGINES.items() for precision in engine.precisions for device in DEVICES
    if device in engine.devices and (precision, device) not in {("tf32", "cpu"), ("int8", "cuda")}
]


@pytest.mark.parametrize(("name", "precision", "device"), COMBINATIONS)
def test_an_engine_predicts_the_networks_classes(
    name: str, precision: str, device: str, exported: Path, cache: Path, images: list[torch.Tensor], expected: list[int]
) -> None:
    try:
        predicted = classes_of(name, Setup(exported, cache, precision, device), images)
    except InputError as error:
        assert "only where the processor does" in str(error)
        pytest.skip(str(error))
    if precision == "float32":
        assert predicted == expected
    else:
        assert sum(ours == theirs for ours, theirs in zip(predicted, expected, strict=True)) >= 25


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_predictions_in_batches_are_those_of_every_image(name: str, exported: Path, cache: Path) -> None:
    pixels = squares(7, seed=0)  # batches of 3: the last one is padded
    logits = predict(name, Setup(exported, cache), pixels, batch_size=3)
    with torch.inference_mode():
        reference_logits = tiny_network()(normalize(pixels)).numpy()
    assert logits.shape == (7, 10)
    assert np.allclose(logits, reference_logits, atol=1e-4)


@pytest.mark.parametrize("name", ["eager", "torchscript", "onnxruntime", "openvino"])
def test_classifying_leaves_the_image_unchanged(name: str, exported: Path, images: list[torch.Tensor]) -> None:
    before = images[0].clone()
    ENGINES[name](Setup(exported, exported)).classify(images[0])
    assert torch.equal(images[0], before)


# ---- the options and precision that an engine names are those that run


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_an_engine_computes_in_its_precision(precision: str, exported: Path) -> None:
    weights = list(Eager(Setup(exported, exported, precision)).network.parameters())
    assert {weight.dtype for weight in weights} == {PRECISIONS[precision]}


def is_channels_last(weight: torch.Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


@pytest.mark.parametrize("options", ENGINES["torchscript"].candidate_options("cpu"))
def test_torchscript_runs_with_its_options(options: str, exported: Path) -> None:
    graph = ENGINES["torchscript"](Setup(exported, exported, options=options)).network.graph
    constants = [node.output().toIValue() for node in graph.findAllNodes("prim::Constant")]
    convolutions = [value for value in constants if isinstance(value, torch.Tensor) and value.ndim == 4]
    assert ("frozen" in options) == (not graph.findAllNodes("prim::GetAttr"))
    assert ("optimize_for_inference" in options) == bool(graph.findAllNodes("prim::mkldnn_convolution"))
    assert ("channels-last" in options) == any(map(is_channels_last, convolutions))


def test_torchscript_computes_in_tf32_only_on_request(exported: Path) -> None:
    """A traced program has constants of its own: TF32 allowed, and no search by cuDNN."""
    def flags(graph: torch.Graph) -> set[tuple[bool, bool]]:
        convolutions = [list(node.inputs()) for node in graph.findAllNodes("aten::_convolution")]
        assert len(convolutions) == 8
        return {(inputs[9].toIValue(), inputs[12].toIValue()) for inputs in convolutions}

    assert flags(load_torchscript(exported / "model.pt").inlined_graph) == {(False, True)}
    frozen = ENGINES["torchscript"](Setup(exported, exported, options="frozen, contiguous")).network
    assert flags(frozen.graph) == {(True, False)}
    network = load_torchscript(exported / "model.pt")
    pytorch._set_convolutions(network, tf32=True)
    assert flags(network.inlined_graph) == {(True, True)}


@pytest.mark.parametrize("options", ENGINES["eager"].candidate_options("cpu"))
def test_eager_runs_with_its_options(options: str, exported: Path) -> None:
    weights = Eager(Setup(exported, exported, options=options)).network.parameters()
    assert ("channels-last" in options) == any(is_channels_last(weight) for weight in weights if weight.ndim == 4)


@pytest.mark.parametrize(("name", "options", "passed"), [
    ("torchscript-cpp", "frozen, channels-last", {"frozen", "channels-last"}),
    ("torchscript-cpp", "frozen, contiguous", {"frozen"}),
    ("torchscript-plain", "", set()),
])
def test_the_cpp_program_gets_the_options(
    name: str, options: str, passed: set[str], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(infer, "build", lambda: "infer")
    monkeypatch.setattr(infer, "call", lambda *command: calls.append(command))
    test = Split(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), {})
    with pytest.raises(FileNotFoundError):  # nothing was measured
        ENGINES[name](Setup(exported, exported, options=options)).measure(test, warmup=7)
    (command,) = calls
    arguments = dict(zip(command[1::2], command[2::2]))
    assert {option for option in arguments["--options"].split(",") if option} == passed
    assert arguments["--warmup"] == (1 if name == "torchscript-plain" else 7)


def test_openvino_and_onnxruntime_run_with_their_options(exported: Path) -> None:
    openvino = ENGINES["openvino"](Setup(exported, exported, threads=1))
    assert np.shares_memory(openvino.input, openvino.request.get_input_tensor().data)
    assert np.shares_memory(openvino.output, openvino.request.get_output_tensor().data)
    compiled = openvino.request.get_compiled_model()
    assert str(compiled.get_property("PERFORMANCE_HINT")).endswith("LATENCY")
    assert compiled.inputs[0].shape == [1, 3, 32, 32]
    session = ENGINES["onnxruntime"](Setup(exported, exported, threads=1)).session
    assert session.get_session_options().graph_optimization_level.name == "ORT_ENABLE_ALL"
    assert session.get_inputs()[0].shape == [1, 3, 32, 32]


# ---- int8


def test_an_int8_network_with_weights_of_7_bits_is_nearly_the_same(
    exported: Path, tmp_path: Path, images: list[torch.Tensor]
) -> None:
    setup = Setup(exported, tmp_path, "int8")
    ENGINES["onnxruntime"].compile(setup)
    arrays = [numpy_helper.to_array(array) for array in onnx.load(tmp_path / "model-int8.onnx").graph.initializer]
    weights = [array.astype(int) for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    assert max(abs(weight).max() for weight in weights) == 64
    assert 0 < error_of("onnxruntime", exported, tmp_path, images) < 0.1


def error_of(name: str, exported: Path, cache: Path, images: list[torch.Tensor]) -> float:
    """The median over images of an engine's largest error of a logit in int8, relative to the largest logit."""
    reference, quantized = (ENGINES[name](Setup(exported, cache, precision)) for precision in ("float32", "int8"))
    errors = []
    for image in images:
        exact, rounded = (torch.as_tensor(engine.logits(image)) for engine in (reference, quantized))
        errors.append((rounded - exact).abs().max() / exact.abs().max())
    return float(np.median(errors))


def test_executorch_runs_all_of_the_network_by_xnnpack(exported: Path, tmp_path: Path, images: list[torch.Tensor]) -> None:
    for precision in ("float32", "int8"):
        setup = Setup(exported, tmp_path, precision)
        ENGINES["executorch"].compile(setup)
        (plan,) = deserialize_pte_binary(ENGINES["executorch"].model_file(setup).read_bytes()).program.execution_plan
        assert plan.operators == [] and {delegate.id for delegate in plan.delegates} == {"XnnpackBackend"}
    assert 0 < error_of("executorch", exported, tmp_path, images) < 0.1


def test_engines_of_executorch_use_their_number_of_threads_in_turn(
    exported: Path, tmp_path: Path, images: list[torch.Tensor], expected: list[int]
) -> None:
    ENGINES["executorch"].compile(Setup(exported, tmp_path))
    engines = {threads: ENGINES["executorch"](Setup(exported, tmp_path, threads=threads)) for threads in (1, 3)}
    for threads in (1, 3, 1):
        assert [engines[threads].classify(image) for image in images] == expected
        assert portable_lib._threadpool_get_thread_count() == threads


def test_onednn_computes_the_int8_logits_of_onnxruntime(exported: Path, tmp_path: Path) -> None:
    images, setup = squares(200, seed=0), Setup(exported, tmp_path, "int8")
    expected, logits = predict("onnxruntime", setup, images), predict("onednn-cpp", setup, images)
    exact = predict("onednn-cpp", Setup(exported, tmp_path), images)
    assert 0 < np.abs(logits - expected).mean() < 0.2 * np.abs(exact - expected).mean()


# ---- what cannot run


@pytest.mark.parametrize(("name", "precision", "words"), [
    ("onnxruntime", "float16", ["onnxruntime", "float16", "float32"]), ("eager", "int8", ["eager", "int8", "float32"]),
    ("torchscript-cpp", "tf32", ["torchscript-cpp", "tf32"]), ("eager", "tf32", ["tf32", "NVIDIA"]),
    ("eager-cudagraph", "float32", ["eager-cudagraph", "cpu", "cuda"]),
])
def test_an_unsupported_precision_or_device_is_refused(
    name: str, precision: str, words: list[str], exported: Path, refused: Refused
) -> None:
    with refused(*words):
        ENGINES[name](Setup(exported, exported, precision))


@pytest.mark.parametrize("name", [name for name, engine in ENGINES.items() if "cpu" in engine.devices])
def test_a_missing_model_is_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    setup = Setup(tmp_path, tmp_path)
    with refused(str(tmp_path / "model.pt"), "2_export"):  # the other files are made from it
        ENGINES[name].compile(setup)
        classes_of(name, setup, [torch.zeros(1, 3, 32, 32)])


def test_a_missing_library_is_named(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    with refused("executorch cannot be imported", "pip install executorch"):
        ENGINES["executorch"].compile(Setup(exported, tmp_path, "int8"))
    assert list(tmp_path.iterdir()) == []


def test_a_library_may_come_in_a_package_of_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Eager, "library", "yaml")
    assert Eager.version() == yaml.__version__
