"""How the network is trained: recipes, optimizers, checkpoints, distillation."""
