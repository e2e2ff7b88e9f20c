"""The optimizers: SGD with a learning rate for each kind of weight, and Muon for convolutions."""

from collections.abc import Iterable

import torch
from torch.optim import SGD, Optimizer

from cifar_lib.model import ResNet9
from cifar_lib.training.recipes import RECIPES, Recipe


def make_optimizers(network: ResNet9, recipe: Recipe, bfloat16: bool = False) -> list[Optimizer]:
    """SGD for all weights, or SGD and Muon where the recipe has it; `bfloat16` is for Muon's matrix products."""
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    convolutions = [weight for weight in trained.values() if weight.ndim == 4]
    biases = [weight for name, weight in trained.items() if weight.ndim == 1 and name.endswith("bias")]
    scales = [weight for name, weight in trained.items() if weight.ndim == 1 and name.endswith("weight")]
    rate = recipe.learning_rate
    groups = [
        {"params": biases, "lr": rate * recipe.bias_factor, "weights": "batch-norm biases"},
        {"params": scales, "lr": rate, "weights": "batch-norm scales"},
        {"params": [network.linear.weight], "lr": rate * recipe.linear_factor, "weights": "last layer"},
    ]
    if not recipe.muon:  # at the original's learning rate: the fast recipe's is tuned for the other weights
        groups.append({"params": convolutions, "lr": RECIPES["original"].learning_rate, "weights": "convolutions"})
    optimizers: list[Optimizer] = [SGD(groups, lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
                                       nesterov=recipe.nesterov)]
    if recipe.muon:
        optimizers.append(Muon([{"params": convolutions, "weights": "convolutions"}], lr=recipe.muon_rate,
                               ns_steps=recipe.muon_steps, dtype=torch.bfloat16 if bfloat16 else torch.float32))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["max_lr"] = group["lr"]
    return optimizers


def describe(optimizers: Iterable[Optimizer]) -> list[dict]:
    """A table row for each group of weights: its optimizer, how many parameters it has, and its hyperparameters."""
    return [{"weights": group["weights"], "optimizer": type(optimizer).__name__,
             "parameters": sum(weight.numel() for weight in group["params"]), "peak learning rate": group["max_lr"],
             "momentum": group["momentum"], "weight decay": group.get("weight_decay", 0.0)}
            for optimizer in optimizers for group in optimizer.param_groups]


def scale_learning_rates(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every learning rate to `factor` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["max_lr"]


class Muon(Optimizer):
    """Muon, momentum with orthogonalized updates, for convolution weights (PyTorch's own takes matrices only).

    A weight outputs×inputs×3×3 is treated as a matrix of `outputs` rows. At each step it is rescaled to the norm √outputs,
    which batch normalization makes harmless. The update has about the same norm, so `lr` is the relative step (as in Jordan's
    airbench).
    """

    def __init__(
        self, params: Iterable[torch.Tensor | dict], lr: float, momentum: float = 0.6, nesterov: bool = True, ns_steps: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps})
        self.dtype = dtype  # of the orthogonalization only

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
                buffer = self.state[weight]["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad + group["momentum"] * buffer if group["nesterov"] else buffer
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                update = orthogonalize(update.flatten(1), group["ns_steps"], self.dtype)
                weight.sub_(update.view_as(weight), alpha=group["lr"])


def orthogonalize(matrix: torch.Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """`matrix` with its singular values brought near 1 (0.7 to 1.2), by a quintic Newton–Schulz iteration in `dtype`.

    The coefficients are those of Jordan's Muon, chosen to rise fast from 0 rather than to converge at 1.
    """
    x = (matrix / (matrix.norm() + 1e-7)).to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x
