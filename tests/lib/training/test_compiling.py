"""Trying the compiler leaves the network as it was, and its failure is one line; bfloat16 is used where the hardware has it."""

import cpuinfo
import pytest
import torch
from helpers import tiny_network

from cifar_lib.training import compiling


@pytest.mark.parametrize("fails", [None, "compiling", "running"])
def test_a_network_is_compiled_where_that_works_and_never_changed_by_trying(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: str | None
) -> None:
    network, sizes = tiny_network().train(), []
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def fail() -> None:
        raise RuntimeError("no C++ compiler\nand a long trace")

    def compile_network(network: torch.nn.Module, dynamic: bool) -> object:
        def forward(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            logits = network(images)  # changes the batch-norm statistics
            return fail() if fails == "running" else logits

        assert not dynamic
        return fail() if fails == "compiling" else forward

    monkeypatch.setattr(torch, "compile", compile_network)
    forward, error = compiling.compiled_or_eager(network, 5)
    assert (forward is network) == bool(fails) and error == ("RuntimeError: no C++ compiler" if fails else None)
    assert ("without torch.compile" in capsys.readouterr().out) == bool(fails)
    assert set(sizes) <= {5}
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(
    ("features", "native"),
    [([], False), (["avx2", "avx512f"], False), (["avx2", "avx512_bf16"], True), (["amx_tile", "amx_bf16"], True),
     (["asimd", "asimdhp"], False), (["asimd", "bf16"], True)],
    ids=["unknown", "AVX-512", "AVX-512 BF16", "AMX", "Arm", "Arm with BF16"],
)
def test_mixed_precision_is_for_processors_with_bfloat16_arithmetic(
    monkeypatch: pytest.MonkeyPatch, features: list[str], native: bool
) -> None:
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: {"flags": features})
    assert compiling.has_native_bfloat16("cpu") is native


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_mixed_precision_is_for_gpus_with_bfloat16_arithmetic(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert compiling.has_native_bfloat16("cuda") is native
