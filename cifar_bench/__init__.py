"""The instrument: fresh processes, records, intervals, verdicts and figures.

Import it before PyTorch: it drops the variables that tune numerical libraries, which PyTorch reads once.
"""

import io
import json
import os
import re
import sys
from collections.abc import MutableMapping

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a folder under results/

# Variables of numerical libraries that change which kernels run or on how many cores; usually left over from other work.
TUNING = re.compile(
    "(OMP|GOMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|GOTO|BLIS|ATEN|MLAS|ORT|TORCHINDUCTOR|AOTINDUCTOR|AOT_INDUCTOR|TORCHDYNAMO"
    "|TORCH_COMPILE|TORCH_MKLDNN|PYTORCH_TENSOREXPR)_.+|CUDA_LAUNCH_BLOCKING|NVIDIA_TF32_OVERRIDE"
    "|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE|PYTORCH_JIT")
# How threads wait, what libraries print, where they cache compiled code, and what lets two of them share a process.
HARMLESS = re.compile(
    "OMP_WAIT_POLICY|OMP_DISPLAY_.+|MKL_(THREADING|INTERFACE)_LAYER|KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)"
    "|TORCHINDUCTOR_CACHE_DIR")
DROPPED_VARIABLE = "CIFAR_BENCH_DROPPED"  # tells child processes what their parents dropped

# Lines of an error message or traceback that are not the reason.
NOT_A_REASON = re.compile(
    r"Traceback |The following operation failed|File |frame #|Exception (raised )?from |The above exception|During handling"
    r"|from user code|(Explanation|Hint|Developer debug context): |Set TORCH|For (more|extended|even|C\+\+) |[\^~\s]*$"
    r"|.* raised:$")
PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@~-]+)+/([\w.+@~-]+)")  # an absolute path, and its last name


def error_summary(message: str, last: bool = False) -> str:
    """The reason in an error message or a process's output: one line, without hints and without folders of this machine.

    It is the first line that is a reason; the last one on request, or in a traceback.
    """
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


DROPPED = drop_tuning(os.environ)  # on import: OMP_PROC_BIND, for one, makes PyTorch bind this process to a core

for stream in (sys.stdout, sys.stderr):  # messages hold characters that other encodings lack
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
        stream.reconfigure(encoding="utf-8")
