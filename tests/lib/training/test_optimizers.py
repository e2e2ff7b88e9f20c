"""Every weight has the optimizer and learning rate that its recipe says; Muon's step is the one described."""

import pytest
import torch

from cifar_lib.model import ResNet9, count_parameters
from cifar_lib.training import recipes
from cifar_lib.training.optimizers import Muon, describe, make_optimizers, orthogonalize, scale_learning_rates
from cifar_lib.training.recipes import RECIPES, choose

ORIGINAL, FAST = RECIPES["original"], RECIPES["fast"]


@pytest.fixture
def network() -> ResNet9:
    torch.manual_seed(0)
    return ResNet9([8, 16, 32, 64])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (50, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_original_recipe_is_plain_sgd_on_every_weight(network: ResNet9) -> None:
    recipes.initialize(network, ORIGINAL, torch.zeros(0))
    (sgd,) = make_optimizers(network, ORIGINAL)
    weights = [weight for group in sgd.param_groups for weight in group["params"]]
    assert {id(weight) for weight in weights} == {id(weight) for weight in network.parameters()}
    assert len(weights) == len(list(network.parameters()))
    for group in sgd.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 5e-4, False)


def test_every_trained_weight_has_one_optimizer_and_convolutions_have_muon(network: ResNet9, images: torch.Tensor) -> None:
    recipes.initialize(network, FAST, images)
    sgd, muon = make_optimizers(network, FAST)
    by = [[id(weight) for group in optimizer.param_groups for weight in group["params"]] for optimizer in (sgd, muon)]
    trained = {id(weight): weight for weight in network.parameters() if weight.requires_grad}
    assert sorted(by[0] + by[1]) == sorted(trained)
    assert all((trained[number].ndim == 4) == (number in by[1]) for number in trained)
    assert not network.first[0].weight.requires_grad


def test_without_muon_convolutions_have_the_originals_learning_rate(network: ResNet9) -> None:
    (sgd,) = make_optimizers(network, choose("fast", ["muon"]))
    rates = {weight.ndim: group["lr"] for group in sgd.param_groups for weight in group["params"]}
    assert rates[4] == ORIGINAL.learning_rate > FAST.learning_rate


@pytest.mark.parametrize("recipe", [ORIGINAL, FAST], ids=["original", "fast"])
def test_the_description_has_every_parameter_at_its_peak_learning_rate(network: ResNet9, recipe: recipes.Recipe) -> None:
    optimizers = make_optimizers(network, recipe)
    scale_learning_rates(optimizers, 0.5)
    scale_learning_rates(optimizers, 0.25)
    for optimizer in optimizers:
        assert all(group["lr"] == 0.25 * group["max_lr"] > 0 for group in optimizer.param_groups)
    rows = {row["weights"]: row for row in describe(optimizers)}
    assert sum(row["parameters"] for row in rows.values()) == count_parameters(network)
    assert rows["last layer"]["parameters"] == network.linear.weight.numel()
    peak = {name: row["peak learning rate"] for name, row in rows.items()}
    assert peak == {"batch-norm biases": recipe.learning_rate * recipe.bias_factor, "batch-norm scales": recipe.learning_rate,
                    "last layer": recipe.learning_rate * recipe.linear_factor,
                    "convolutions": FAST.muon_rate if recipe.muon else 0.1}
    assert rows["convolutions"]["optimizer"] == ("Muon" if recipe.muon else "SGD")


# ---- Muon


@pytest.mark.parametrize(("dtype", "off_diagonal"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (30, 30)])
def test_orthogonalizing_brings_singular_values_near_one_and_keeps_directions(
    shape: tuple[int, int], dtype: torch.dtype, off_diagonal: float
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    orthogonal = orthogonalize(matrix, dtype=dtype)
    assert orthogonal.dtype == dtype
    within = u.T @ orthogonal.float() @ v.T
    values = torch.linalg.svdvals(orthogonal.float())
    if shape[0] != shape[1]:  # a square random matrix has a singular value near 0, which five iterations do not lift
        assert (values > 0.6).all()
    assert (values < 1.3).all()
    assert (within - torch.diag(within.diag())).abs().max() < off_diagonal


def test_muon_minimises_a_distance() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(4, 3, 3, 3), torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    target *= 2 / target.norm()  # the norm that Muon keeps
    muon = Muon([weight], lr=0.0)
    for step in range(200):
        muon.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        weight.grad = weight.detach() - target
        muon.step()
    assert (weight.detach() - target).norm() / target.norm() < 0.1


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_of_muon_are_those_described(nesterov: bool) -> None:
    torch.manual_seed(0)
    weight, gradients = torch.nn.Parameter(torch.randn(4, 3, 3, 3)), torch.randn(2, 4, 3, 3, 3)
    muon = Muon([weight], lr=0.1, momentum=0.6, nesterov=nesterov, ns_steps=3)
    expected, buffer = weight.detach().clone(), torch.zeros(4, 3, 3, 3)
    for gradient in gradients:
        buffer = 0.6 * buffer + gradient
        update = gradient + 0.6 * buffer if nesterov else buffer
        expected = expected * 2 / expected.norm() - 0.1 * orthogonalize(update.reshape(4, 27), 3).reshape(4, 3, 3, 3)
        weight.grad = gradient.clone()
        muon.step()
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(muon.state[weight]["momentum_buffer"], buffer)
