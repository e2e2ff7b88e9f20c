"""How the network is trained: recipes, optimizers, checkpoints, distillation; the loop itself is in notebooks/1_train.ipynb."""
