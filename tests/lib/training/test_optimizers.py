"""Every weight is trained by the optimizer and at the rate that its recipe names; Muon's step is that of its description."""

import pytest
import torch

from cifar_lib.model import ResNet9, count_parameters
from cifar_lib.training import recipes
from cifar_lib.training.optimizers import Muon, describe, make_optimizers, orthogonalise, set_rate
from cifar_lib.training.recipes import RECIPES, choose

ORIGINAL, FAST = RECIPES["original"], RECIPES["fast"]


@pytest.fixture
def network() -> ResNet9:
    torch.manual_seed(0)
    return ResNet9([8, 16, 32, 64])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (50, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# ---- which weights learn how


def test_the_originals_recipe_is_plain_sgd_on_every_weight(network: ResNet9) -> None:
    recipes.initialise(network, ORIGINAL, torch.zeros(0))
    (sgd,) = make_optimizers(network, ORIGINAL)
    weights = [weight for group in sgd.param_groups for weight in group["params"]]
    assert {id(weight) for weight in weights} == {id(weight) for weight in network.parameters()}
    assert len(weights) == len(list(network.parameters()))
    for group in sgd.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 5e-4, False)


def test_every_trained_weight_has_one_optimizer_and_convolutions_have_muon(network: ResNet9, images: torch.Tensor) -> None:
    recipes.initialise(network, FAST, images)
    sgd, muon = make_optimizers(network, FAST)
    by = [[id(weight) for group in optimizer.param_groups for weight in group["params"]] for optimizer in (sgd, muon)]
    trained = {id(weight): weight for weight in network.parameters() if weight.requires_grad}
    assert sorted(by[0] + by[1]) == sorted(trained)
    assert all((trained[number].ndim == 4) == (number in by[1]) for number in trained)
    assert not network.first[0].weight.requires_grad


def test_without_muon_convolutions_have_the_originals_rate_not_one_made_for_the_others(network: ResNet9) -> None:
    (sgd,) = make_optimizers(network, choose("fast", ["muon"]))
    rates = {weight.ndim: group["lr"] for group in sgd.param_groups for weight in group["params"]}
    assert rates[4] == ORIGINAL.learning_rate > FAST.learning_rate


def test_setting_a_share_of_the_rate_scales_every_group(network: ResNet9) -> None:
    optimizers = make_optimizers(network, FAST)
    set_rate(optimizers, 0.5)
    set_rate(optimizers, 0.25)
    for optimizer in optimizers:
        assert all(group["lr"] == 0.25 * group["highest_lr"] > 0 for group in optimizer.param_groups)


@pytest.mark.parametrize("recipe", [ORIGINAL, FAST], ids=["original", "fast"])
def test_the_description_has_every_trained_number_once_at_its_rate(network: ResNet9, recipe: recipes.Recipe) -> None:
    optimizers = make_optimizers(network, recipe)
    set_rate(optimizers, 0.5)  # the description says the highest all the same
    rows = {row["weights"]: row for row in describe(optimizers)}
    assert set(rows) == {"batch-norm biases", "batch-norm gains", "last layer", "convolutions"}
    assert sum(row["numbers"] for row in rows.values()) == count_parameters(network)
    assert rows["last layer"]["numbers"] == network.linear.weight.numel()
    assert rows["batch-norm biases"]["highest learning rate"] == recipe.learning_rate * recipe.bias_factor
    assert rows["batch-norm gains"]["highest learning rate"] == recipe.learning_rate
    assert rows["last layer"]["highest learning rate"] == recipe.learning_rate * recipe.linear_factor
    assert all(rows[name]["weight decay"] == recipe.weight_decay for name in rows if name != "convolutions")


def test_the_description_names_what_trains_the_convolutions(network: ResNet9) -> None:
    by = [{row["weights"]: row for row in describe(make_optimizers(network, recipe))} for recipe in (ORIGINAL, FAST)]
    original, fast = (rows["convolutions"] for rows in by)
    assert (original["optimizer"], original["highest learning rate"], original["weight decay"]) == ("SGD", 0.1, 5e-4)
    assert (fast["optimizer"], fast["highest learning rate"], fast["weight decay"]) == ("Muon", FAST.muon_rate, 0)


# ---- Muon


@pytest.mark.parametrize(("dtype", "off_diagonal"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (30, 30)])
def test_orthogonalising_brings_singular_values_near_one_and_keeps_directions(
    shape: tuple[int, int], dtype: torch.dtype, off_diagonal: float
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    orthogonal = orthogonalise(matrix, dtype=dtype)
    assert orthogonal.dtype == dtype
    within = u.T @ orthogonal.float() @ v.T
    values = torch.linalg.svdvals(orthogonal.float())
    if shape[0] != shape[1]:  # a square random matrix has a singular value near 0, which five iterations do not lift
        assert (values > 0.6).all()
    assert (values < 1.3).all()
    assert (within - torch.diag(within.diag())).abs().max() < off_diagonal


def test_a_step_of_muon_turns_a_weight_by_its_rate_and_against_the_gradient() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(16, 8, 3, 3))
    muon = Muon([weight], lr=0.1)
    weight.grad = torch.randn_like(weight)
    scaled = weight.detach() * 4 / weight.detach().norm()
    muon.step()
    change = weight.detach() - scaled
    assert (change * weight.grad).sum() < 0
    assert change.norm() / scaled.norm() == pytest.approx(0.1, rel=0.2)


def test_muon_learns_what_sgd_learns() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(4, 3, 3, 3), torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    target *= 2 / target.norm()  # of the norm that Muon keeps
    muon = Muon([weight], lr=0.0)
    for step in range(200):
        muon.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        weight.grad = weight.detach() - target
        muon.step()
    assert (weight.detach() - target).norm() / target.norm() < 0.1


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_of_muon_are_those_of_its_description(nesterov: bool) -> None:
    torch.manual_seed(0)
    weight, gradients = torch.nn.Parameter(torch.randn(4, 3, 3, 3)), torch.randn(2, 4, 3, 3, 3)
    muon = Muon([weight], lr=0.1, momentum=0.6, nesterov=nesterov, ns_steps=3)
    expected, buffer = weight.detach().clone(), torch.zeros(4, 3, 3, 3)
    for gradient in gradients:
        buffer = 0.6 * buffer + gradient
        update = gradient + 0.6 * buffer if nesterov else buffer
        expected = expected * 2 / expected.norm() - 0.1 * orthogonalise(update.reshape(4, 27), 3).reshape(4, 3, 3, 3)
        weight.grad = gradient.clone()
        muon.step()
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(muon.state[weight]["momentum_buffer"], buffer)


def test_muon_goes_on_from_its_state_as_if_it_had_not_stopped() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 3, 3), torch.randn(4, 4, 3, 3, 3)
    ended = []
    for stops_after in (None, 2):
        weight = torch.nn.Parameter(start.clone())
        muon = Muon([weight], lr=0.1)
        for number, gradient in enumerate(gradients):
            if number == stops_after:
                weight, state = torch.nn.Parameter(weight.detach().clone()), muon.state_dict()
                muon = Muon([weight], lr=0.5)
                muon.load_state_dict(state)
            weight.grad = gradient.clone()
            muon.step()
        ended.append(weight.detach())
    assert torch.equal(*ended)
