"""The instrument: fresh processes, records, intervals, verdicts and figures.

Import it before PyTorch: it drops the variables that change what is compiled or how fast it runs, which PyTorch reads once.
"""

import io
import json
import os
import re
import sys
from collections.abc import MutableMapping

from cifar_lib import ROOT

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a folder under results/

# Variables that change which kernels run or on how many cores, what is loaded into a process (another allocator, say), how the
# interpreter runs, or what a compiler makes; usually left over from other work. A timed process starts without them.
TUNING = re.compile(
    "(OMP|GOMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|GOTO|BLIS|ATEN|MLAS|ORT|TORCHINDUCTOR|AOTINDUCTOR|AOT_INDUCTOR|TORCHDYNAMO"
    "|TORCH_(COMPILE|MKLDNN|CUDNN|BLAS)|PYTORCH_TENSOREXPR|XNNPACK|OV|OPENVINO|CUDNN|CUBLAS|LD|(JE|MI|TC)?MALLOC|CMAKE|NINJA"
    "|CCACHE|ASAN|UBSAN|TSAN|LSAN)_.+|CUDA_(LAUNCH_BLOCKING|MODULE_LOADING|DEVICE_MAX_CONNECTIONS)|NVIDIA_TF32_OVERRIDE"
    "|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE|PYTORCH_(JIT|(CUDA_)?ALLOC_CONF|NO_CUDA_MEMORY_CACHING)|GLIBC_TUNABLES"
    "|PYTHON(MALLOC.*|DEVMODE|DEBUG|OPTIMIZE|TRACEMALLOC|ASYNCIODEBUG|FAULTHANDLER|PROFILEIMPORTTIME|DUMPREFS.*"
    "|PERFSUPPORT|INSPECT|VERBOSE|_JIT|_GIL)|(C|CXX|CPP|LD|NVCC_PREPEND_|NVCC_APPEND_)FLAGS|CPATH|(C|CPLUS)_INCLUDE_PATH"
    "|(LIBRARY|COMPILER)_PATH|GCC_EXEC_PREFIX")
# Where libraries are found, how threads wait, what is printed, where compiled code is cached, what lets two libraries share a
# process.
HARMLESS = re.compile(
    "LD_LIBRARY_PATH|OMP_WAIT_POLICY|OMP_DISPLAY_.+|MKL_(THREADING|INTERFACE)_LAYER|KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)"
    "|TORCHINDUCTOR_CACHE_DIR")
KEPT = ("LD_LIBRARY_PATH", "PYTHONPATH", "CXX")  # not dropped, as something may need them, but on record
DROPPED_VARIABLE = "CIFAR_BENCH_DROPPED"  # tells child processes what their parents dropped

# Lines of an error message or traceback that are not the reason.
NOT_A_REASON = re.compile(
    r"Traceback |The following operation failed|File |frame #|Exception (raised )?from |The above exception|During handling"
    r"|from user code|(Explanation|Hint|Developer debug context): |Set TORCH|For (more|extended|even|C\+\+) |[\^~\s]*$"
    r"|.* raised:$")
PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@~-]+)+/([\w.+@~-]+)")  # an absolute path, and its last name


def error_summary(message: str, last: bool = False) -> str:
    """The reason in an error message or a process's output: one line, without hints and without folders of this machine.

    It is the first line that is a reason, of a compiler its own first line; the last one on request, or in a traceback.
    """
    message = message.rpartition("\nOutput:\n")[2]  # TorchInductor quotes the compiler's command before it
    lines = [line.strip() for line in message.splitlines() if not NOT_A_REASON.match(line.strip())]
    reason = lines[-1 if last or "Traceback " in message else 0] if lines else ""
    return PATH.sub(r"\1", reason)


def drop_tuning(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Remove TUNING variables from `environ`; return what was removed here and in parent processes."""
    dropped = json.loads(environ.get(DROPPED_VARIABLE, "{}"))
    for name in [name for name in environ if TUNING.fullmatch(name) and not HARMLESS.fullmatch(name)]:
        dropped[name] = environ.pop(name)
    if dropped:
        environ[DROPPED_VARIABLE] = json.dumps(dropped)
    return dict(sorted(dropped.items()))


# Compiled code must be loaded from there, which a folder for temporary files may not allow.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / "build" / "inductor"))
DROPPED = drop_tuning(os.environ)  # on import: OMP_PROC_BIND, for one, makes PyTorch bind this process to a core

for stream in (sys.stdout, sys.stderr):  # messages hold characters that other encodings lack
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
        stream.reconfigure(encoding="utf-8")
