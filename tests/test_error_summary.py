"""An error is summarised by its reason: no frames, no hints to developers, no folders of this machine."""

import pytest
from conftest import Refused

from cifar_bench import error_summary
from cifar_bench.engines.base import reason_of_failure

VERBOSE = "Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug)."
# Messages of PyTorch, ONNX Runtime, OpenVINO and compilers.
MESSAGES = [
    (f"No working C++ compiler found: ('/opt/x/bin/g++',)\n\n{VERBOSE}\n", "No working C++ compiler found: ('g++',)"),
    (f"backend='inductor' raised:\nRuntimeError: out of memory\n\n{VERBOSE}", "RuntimeError: out of memory"),
    ("\n\nfrom user code:\n   File \"/home/a/model.py\", line 16, in forward\n\nnot supported: print", "not supported: print"),
    ("Exception from src/inference/src/cpp/core.cpp:84:\nUnable to read the model: \"/tmp/a/b.onnx\"",
     "Unable to read the model: \"b.onnx\""),
    ("The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent call last):\n"
     "  File \"code/__torch__.py\", line 12, in forward\n    x = y\n        ~ <--- HERE\nRuntimeError: sizes differ",
     "RuntimeError: sizes differ"),
    ("Load model from /home/a/model.onnx failed:No graph was found.", "Load model from model.onnx failed:No graph was found."),
    ("see https://pytorch.org/docs/stable/x.html and a/b/c", "see https://pytorch.org/docs/stable/x.html and a/b/c"),
    ("CppCompileError: C++ compile error\n\nCommand:\ng++ /a/b.o -L/my disk/torch\n\nOutput:\n/usr/bin/ld: cannot find disk\n",
     "ld: cannot find disk"),
    ("", ""), (VERBOSE, ""),
]


@pytest.mark.parametrize(("message", "reason"), MESSAGES)
def test_the_reason_is_found_in_an_error_message(message: str, reason: str) -> None:
    assert error_summary(message) == reason


def test_the_reason_of_a_failed_process_is_the_last_one_in_its_output() -> None:
    output = f"a warning\nValueError: no space in /var/lib/x\n{VERBOSE}\n\n"
    assert error_summary(output, last=True) == "ValueError: no space in x"


@pytest.mark.parametrize(("error", "reason"), [(RuntimeError(MESSAGES[0][0]), MESSAGES[0][1]), (KeyError(), "KeyError")])
def test_an_engines_exception_becomes_one_sentence(error: Exception, reason: str, refused: Refused) -> None:
    with refused(f"it cannot compile ({reason})."), reason_of_failure("it cannot compile"):
        raise error
