"""Knowledge distillation: the predictions of trained networks, the teachers, are the training targets in place of labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531), at temperature 1.
"""

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def targets(teachers: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """The mean of the teachers' predicted probabilities, float32 N×10. The teachers must be in eval mode."""
    return torch.stack([teacher(images).float().softmax(1) for teacher in teachers]).mean(0)
