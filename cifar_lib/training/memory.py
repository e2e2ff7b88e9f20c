"""Memory for training on a CPU: kept by the process, and in large pages, where Linux has them to give.

A training step frees hundreds of megabytes and asks for them again at once. By default the C library gives them back to the
system, which hands them out anew page by page, each filled with zeros: a fifth of a step's time.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MOST = 2**31 - 1  # bytes; what such a setting can be at most


def keep_freed_memory() -> None:
    """Let this process keep what it frees, and PyTorch ask for large pages; does nothing but on Linux with glibc.

    To be called before the first tensor is made: PyTorch reads its variable then (c10/core/impl/alloc_cpu.cpp).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, MOST)
        libc.mallopt(M_MMAP_THRESHOLD, MOST)
