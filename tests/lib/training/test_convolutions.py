"""The convolution whose weight gradient is one matrix product: as accurate as PyTorch's own in bfloat16."""

import pytest
import torch

from cifar_lib.model import ResNet9
from cifar_lib.training.convolutions import MatmulGradConv, use_matmul_gradients


@pytest.mark.parametrize(("count", "inputs", "outputs", "height", "width"), [(5, 3, 7, 4, 4), (8, 9, 9, 4, 4), (2, 6, 4, 3, 5)])
def test_gradients_are_as_accurate_as_pytorchs(count: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    own = MatmulGradConv(inputs, outputs, 3, padding=1, bias=False)
    values = torch.randn(count, inputs, height, width).bfloat16()
    weight = own.weight.detach().bfloat16()
    upstream = torch.randn(count, outputs, height, width).bfloat16()

    def gradients(x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
        x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
        torch.nn.functional.conv2d(x, weight, padding=1).backward(upstream.to(x.dtype))
        return [x.grad.double(), weight.grad.double()]

    exact, pytorchs = gradients(values.double(), weight.double()), gradients(values, weight)
    x = values.clone().requires_grad_()
    own(x).backward(upstream)
    for mine, its, expected in zip([x.grad.double(), own.weight.grad.double()], pytorchs, exact, strict=True):
        assert (mine - expected).norm() <= 1.5 * (its - expected).norm() + 1e-12
        assert (mine - expected).norm() < 0.01 * expected.norm()


def test_a_network_that_uses_it_differs_in_the_rounding_of_gradients_only() -> None:
    torch.manual_seed(0)
    network = ResNet9([8, 8, 16, 32])
    images = torch.randn(16, 3, 32, 32)
    names, before = list(network.state_dict()), network.eval()(images)
    with torch.autocast("cpu", torch.bfloat16):
        network.train()(images).float().square().sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
    network.zero_grad()
    use_matmul_gradients(network)
    assert list(network.state_dict()) == names
    assert sum(isinstance(layer, MatmulGradConv) for layer in network.modules()) == 2
    assert torch.equal(network.eval()(images), before)
    with torch.autocast("cpu", torch.bfloat16):
        network.train()(images).float().square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad.dtype == torch.float32
        assert (weight.grad - gradients[name]).norm() <= 0.05 * gradients[name].norm(), name
