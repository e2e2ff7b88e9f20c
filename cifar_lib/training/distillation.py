"""Learning from trained networks: what they make of an image stands in for its label.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531), at temperature 1.
"""

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def targets(teachers: Sequence[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """The mean over the teachers, each in eval mode, of the probabilities they give images: float32 N×10."""
    return torch.stack([teacher(images).float().softmax(1) for teacher in teachers]).mean(0)
