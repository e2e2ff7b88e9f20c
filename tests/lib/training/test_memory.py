"""A training process keeps the memory that it frees."""

import subprocess
import sys

import pytest

from cifar_lib import ROOT

# Allocates and frees 40 MB twenty times, after a first time, and prints how many pages the system handed out meanwhile.
PROGRAM = """
import resource, sys
if "keep" in sys.argv:
    from cifar_lib.training.memory import keep_freed_memory
    keep_freed_memory()
import torch

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

torch.ones(10_000_000)
before = faults()
for _ in range(20):
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's C library")
def test_freed_memory_is_used_again() -> None:
    pages = {how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True,
                                          check=True).stdout) for how in ("keep", "return")}
    assert pages["keep"] < pages["return"] / 10
