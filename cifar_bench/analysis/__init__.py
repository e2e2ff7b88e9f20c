"""Statistics and verdicts, from records alone: numpy, SciPy and YAML, without PyTorch."""
