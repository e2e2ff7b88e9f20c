"""The components of the recipes do what their names say."""

import pytest
import torch
from torch.nn.functional import conv2d

from cifar_lib.data import normalize
from cifar_lib.model import ResNet9
from cifar_lib.training import recipes
from cifar_lib.training.recipes import COMPONENTS, RECIPES, choose, schedule

ORIGINAL, FAST = RECIPES["original"], RECIPES["fast"]


@pytest.fixture
def network() -> ResNet9:
    torch.manual_seed(0)
    return ResNet9()


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth random images, uint8, with correlated neighboring pixels and colors, as in real images."""
    torch.manual_seed(1)
    coarse = torch.rand(200, 1, 8, 8).expand(-1, 3, -1, -1) + 0.3 * torch.rand(200, 3, 8, 8)
    return (255 * torch.nn.functional.interpolate(coarse / 1.3, size=32, mode="bicubic").clamp(0, 1)).byte()


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (49, 0.1), (50, 0.01), (99, 0.01), (100, 0.001)])
def test_the_originals_learning_rate_is_divided_by_10_after_each_third(epoch: int, rate: float) -> None:
    assert ORIGINAL.learning_rate * schedule(ORIGINAL, 391 * epoch, 391 * 150) == pytest.approx(rate)


def test_the_originals_initialization_is_pytorchs(network: ResNet9) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipes.initialize(network, ORIGINAL, torch.zeros(0))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_left_out_is_as_in_the_original(component: str) -> None:
    chosen = choose("fast", [component])
    assert getattr(chosen, component) == getattr(ORIGINAL, component) != getattr(FAST, component)
    assert choose("fast") == FAST


def test_the_fast_learning_rate_warms_up_for_a_tenth_and_decays_to_0() -> None:
    shares = [schedule(FAST, step, 1000) for step in range(1000)]
    assert shares[:100] == sorted(shares[:100]) and shares[99] == 1
    assert shares[100:] == sorted(shares[100:], reverse=True)
    assert 0 < shares[-1] < 0.002
    assert all(0 < schedule(FAST, step, 1 + step) <= 1 for step in range(3))  # very short runs too


def test_whitening_filters_give_uncorrelated_channels(images: torch.Tensor) -> None:
    filters = recipes.whitening_filters(images, 40)
    assert filters.shape == (40, 3, 3, 3)
    assert torch.equal(filters[:20], -filters[20:])
    channels = conv2d(normalize(images), filters[:20]).transpose(0, 1).flatten(1)
    correlation = torch.corrcoef(channels) - torch.eye(20)
    assert correlation.abs().max() < 1e-2
    variances = channels.var(1)
    assert (variances[:-1] >= variances[1:] * 0.999).all()
    plain = torch.corrcoef(conv2d(normalize(images), torch.randn(20, 3, 3, 3)).transpose(0, 1).flatten(1)) - torch.eye(20)
    assert plain.abs().max() > 0.5


@pytest.mark.parametrize("count", [1, 2, 8, 54, 80])
def test_whitening_fills_a_first_layer_of_any_width(images: torch.Tensor, count: int) -> None:
    filters = recipes.whitening_filters(images, count)
    assert filters.shape == (count, 3, 3, 3) and (filters.flatten(1).norm(dim=1) > 0).all()


def test_dirac_convolutions_are_the_identity(network: ResNet9, images: torch.Tensor) -> None:
    recipes.initialize(network, choose("fast", ["whitening"]), images)
    x = torch.randn(1, 80, 16, 16)
    assert torch.allclose(network.third[0](x)[:, :80], x, atol=1e-6)


def test_the_average_follows_the_last_share_of_the_steps(network: ResNet9) -> None:
    assert recipes.averaged_weights(network, ORIGINAL, 100) is None
    network = ResNet9([1, 2, 4, 8])  # small, for 1,000 updates
    averaged = recipes.averaged_weights(network, FAST, 1000)  # over about 40 steps
    for step in range(1, 1001):
        network.linear.weight.data.fill_(step)
        averaged.update_parameters(network)
    assert 1000 - averaged.module.linear.weight.mean().item() == pytest.approx(39, abs=1)


def test_a_run_of_few_steps_is_not_averaged_with_its_initial_weights(network: ResNet9) -> None:
    averaged = recipes.averaged_weights(network, FAST, 10)
    network.linear.weight.data.fill_(7)
    for _ in range(2):
        averaged.update_parameters(network)
    assert torch.equal(averaged.module.linear.weight, network.linear.weight)
