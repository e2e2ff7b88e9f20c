"""What a training frees it gets again, without the system handing it out anew."""

import subprocess
import sys

import pytest

from cifar_lib import ROOT

# Makes and drops 40 MB twenty times, after the first time, and tells how many pages the system handed out meanwhile.
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
def test_memory_that_was_freed_is_used_again() -> None:
    handed_out = {how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True,
                                          check=True).stdout) for how in ("keep", "give back")}
    assert handed_out["keep"] < handed_out["give back"] / 10
