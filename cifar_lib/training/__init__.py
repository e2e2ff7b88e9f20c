"""How the network is trained: recipes, optimisers, checkpoints, compiling."""
