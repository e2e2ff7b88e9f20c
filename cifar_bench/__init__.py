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

# Settings of the numerical libraries that would change which kernels run or on how many cores: left from other work, as a rule.
TUNING = re.compile(
    "(OMP|GOMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|GOTO|BLIS|ATEN|MLAS|ORT|TORCHINDUCTOR|AOTINDUCTOR|AOT_INDUCTOR|TORCHDYNAMO"
    "|TORCH_COMPILE|TORCH_MKLDNN|PYTORCH_TENSOREXPR)_.+|CUDA_LAUNCH_BLOCKING|NVIDIA_TF32_OVERRIDE"
    "|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE|PYTORCH_JIT")
# How threads wait, what libraries print, where they keep what they compiled, and what lets two of them live in one process.
HARMLESS = re.compile(
    "OMP_WAIT_POLICY|OMP_DISPLAY_.+|.+_VERBOSE|MKL_(THREADING|INTERFACE)_LAYER|KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)"
    "|TORCHINDUCTOR_CACHE_DIR")
DROPPED_VARIABLE = "CIFAR_BENCH_DROPPED"  # tells child processes what was dropped before they began

# Lines of an exception's words, or of a traceback, that lead to the reason or away from it and are none.
NOT_A_REASON = re.compile(
    r"Traceback |The following operation failed|File |frame #|Exception (raised )?from |The above exception|During handling"
    r"|from user code|(Explanation|Hint|Developer debug context): |Set TORCH|For (more|extended|even|C\+\+) |[\^~\s]*$"
    r"|.* raised:$")
PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@~-]+)+/([\w.+@~-]+)")  # an absolute one, and the name that it ends in


def error_summary(words: str, last: bool = False) -> str:
    """The reason in an exception's words, or a process's last ones: a line without hints and without paths of this machine.

    That is the first line, but the last one where asked for, or where the words hold a traceback: it ends with its reason.
    """
    lines = [line.strip() for line in words.splitlines() if not NOT_A_REASON.match(line.strip())]
    sentence = lines[-1 if last or "Traceback " in words else 0] if lines else ""
    return PATH.sub(r"\1", sentence)


def drop_tuning(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the variables that would tune the libraries from `environ`; return those dropped here and in parent processes."""
    dropped = json.loads(environ.get(DROPPED_VARIABLE, "{}"))
    for name in [name for name in environ if TUNING.fullmatch(name) and not HARMLESS.fullmatch(name)]:
        dropped[name] = environ.pop(name)
    if dropped:
        environ[DROPPED_VARIABLE] = json.dumps(dropped)
    return dict(sorted(dropped.items()))


# Now, as PyTorch reads them when it is imported: with OMP_PROC_BIND, for one, it ties this process and its children to a core.
DROPPED = drop_tuning(os.environ)

for stream in (sys.stdout, sys.stderr):  # a locale that lacks a sign must not end what has it to say
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
        stream.reconfigure(encoding="utf-8")
