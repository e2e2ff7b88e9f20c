"""The targets are the mean of the teachers' probabilities, and no gradient flows through them."""

import torch
from torch import nn

from cifar_lib.training import distillation


class Constant(nn.Module):
    """Gives every image the same logits."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_targets_are_the_mean_of_the_teachers_probabilities() -> None:
    images = torch.zeros(3, 3, 32, 32)
    targets = distillation.targets([Constant(0.0, 0.0), Constant(0.0, float(torch.tensor(3.0).log()))], images)
    assert torch.allclose(targets, torch.tensor([[0.375, 0.625]] * 3))
    assert not targets.requires_grad


def test_targets_are_float32_where_the_teachers_compute_in_bfloat16() -> None:
    targets = distillation.targets([Constant(1.0, 2.0).bfloat16()], torch.zeros(1, 3, 32, 32))
    assert targets.dtype == torch.float32 and torch.allclose(targets.sum(1), torch.ones(1))
