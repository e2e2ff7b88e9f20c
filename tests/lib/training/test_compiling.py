"""Trying out the compiler and deterministic algorithms leaves the network as it was, and a failure is told in a line."""


import pytest
import torch
from helpers import tiny_network

from cifar_bench.records import environment
from cifar_lib.training import compiling

Tensors = dict[str, torch.Tensor]


def state_of(network: torch.nn.Module) -> Tensors:
    return {name: value.clone() for name, value in network.state_dict().items()}


def is_as_before(network: torch.nn.Module, before: Tensors) -> bool:
    return all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_compiled_network_is_taken_where_the_compiler_works(monkeypatch: pytest.MonkeyPatch) -> None:
    network, sizes = tiny_network().train(), []
    before = state_of(network)

    def compile_network(network: torch.nn.Module, dynamic: bool) -> compiling.Forward:
        assert not dynamic

        def forward(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return network(images)

        return forward

    monkeypatch.setattr(torch, "compile", compile_network)
    forward, error = compiling.compiled_or_eager(network, 5)
    assert error is None and forward is not network and set(sizes) == {5}
    assert is_as_before(network, before)  # batch-norm statistics too, which a pass moves
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("fails_at", ["compiling", "the first pass", "the second pass"])
def test_without_a_compiler_the_network_is_used_as_it_is_and_the_error_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails_at: str
) -> None:
    network, passes = tiny_network().train(), []
    before = state_of(network)

    def compile_network(network: torch.nn.Module, dynamic: bool) -> compiling.Forward:
        def forward(images: torch.Tensor) -> torch.Tensor:
            passes.append(1)
            if fails_at == ["", "the first pass", "the second pass"][len(passes)]:
                raise RuntimeError("no C++ compiler\nand a long trace")
            return network(images)

        if fails_at == "compiling":
            raise RuntimeError("no C++ compiler\nand a long trace")
        return forward

    monkeypatch.setattr(torch, "compile", compile_network)
    forward, error = compiling.compiled_or_eager(network, 5)
    assert forward is network and error == "RuntimeError: no C++ compiler"
    assert capsys.readouterr().out == f"going on without torch.compile ({error})\n"
    assert is_as_before(network, before)


def test_the_cost_of_determinism_is_the_ratio_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    network, modes = tiny_network().train(), []
    before = state_of(network)
    slow = iter([9.0, *19 * [1.0]])  # the first pass is slow for another reason

    def seconds(*ignored: object, **named: object) -> float:
        modes.append(torch.are_deterministic_algorithms_enabled())
        network.linear.weight.data.zero_()
        return next(slow) * (3.0 if modes[-1] else 2.0)

    monkeypatch.setattr(compiling, "_seconds", seconds)
    try:
        assert compiling.deterministic_cost(network, network, 5) == 1.5
    finally:
        torch.use_deterministic_algorithms(False)
    assert modes == 10 * [False, True] and is_as_before(network, before)


@pytest.mark.parametrize(
    ("features", "computes"),
    [([], False), (["avx2", "avx512f"], False), (["avx2", "avx512_bf16"], True), (["amx_tile", "amx_bf16"], True),
     (["asimd", "asimdhp"], False), (["asimd", "bf16"], True)],
    ids=["unknown", "AVX-512", "AVX-512 BF16", "AMX", "Arm", "Arm with BF16"],
)
def test_mixed_precision_is_for_processors_that_multiply_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, features: list[str], computes: bool
) -> None:
    monkeypatch.setattr(environment, "_cpuinfo", lambda: {"flags": features})
    assert compiling.computes_in_bfloat16("cpu") is computes


@pytest.mark.parametrize(("capability", "computes"), [((6, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_mixed_precision_is_for_gpus_that_multiply_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], computes: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert compiling.computes_in_bfloat16("cuda") is computes
