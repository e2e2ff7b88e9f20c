"""A failure is told by the exception's own sentence: no frames, no hints to developers, no paths of this machine."""

import pytest
from conftest import Refused

from cifar_bench import error_summary
from cifar_bench.engines.base import reason_of_failure

VERBOSE = "Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug)."
# As PyTorch, ONNX Runtime, OpenVINO and compilers word them.
WORDS = [
    (f"No working C++ compiler found: ('/opt/x/bin/g++',)\n\n{VERBOSE}\n", "No working C++ compiler found: ('g++',)"),
    (f"backend='inductor' raised:\nRuntimeError: out of room\n\n{VERBOSE}", "RuntimeError: out of room"),
    ("\n\nfrom user code:\n   File \"/home/a/model.py\", line 16, in forward\n\nnot supported: print", "not supported: print"),
    ("Exception from src/inference/src/cpp/core.cpp:84:\nUnable to read the model: \"/tmp/a/b.onnx\"",
     "Unable to read the model: \"b.onnx\""),
    ("The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent call last):\n"
     "  File \"code/__torch__.py\", line 12, in forward\n    x = y\n        ~ <--- HERE\nRuntimeError: sizes differ",
     "RuntimeError: sizes differ"),
    ("Load model from /home/a/model.onnx failed:No graph was found.", "Load model from model.onnx failed:No graph was found."),
    ("see https://pytorch.org/docs/stable/x.html and a/b/c", "see https://pytorch.org/docs/stable/x.html and a/b/c"),
    ("", ""), (VERBOSE, ""),
]


@pytest.mark.parametrize(("words", "sentence"), WORDS)
def test_the_reason_is_the_exceptions_own_sentence(words: str, sentence: str) -> None:
    assert error_summary(words) == sentence


def test_a_process_that_fails_says_why_in_its_last_line_that_is_a_reason() -> None:
    assert error_summary(f"a warning\nValueError: no room in /var/lib/x\n{VERBOSE}\n\n", last=True) == "ValueError: no room in x"


@pytest.mark.parametrize(("error", "reason"), [(RuntimeError(WORDS[0][0]), WORDS[0][1]), (KeyError(), "KeyError")])
def test_an_engines_exception_becomes_one_sentence(error: Exception, reason: str, refused: Refused) -> None:
    with refused(f"it cannot compile ({reason})."), reason_of_failure("it cannot compile"):
        raise error
