"""Memory for training on a CPU: kept by the process, and in huge pages where Linux offers them.

A training step frees hundreds of megabytes and allocates them again at once. By default the C library returns them to the
system, and each page has to be faulted in and zeroed again: a fifth of a step's time.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MAX_THRESHOLD = 2**31 - 1  # bytes


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, and PyTorch ask for huge pages; no effect except on Linux with glibc.

    Call it before the first tensor is made: PyTorch reads the variable then (c10/core/impl/alloc_cpu.cpp).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, MAX_THRESHOLD)
        libc.mallopt(M_MMAP_THRESHOLD, MAX_THRESHOLD)
