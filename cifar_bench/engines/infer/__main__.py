"""Builds the C++ program and prints its path, so that it can be run without Python."""

import sys

from cifar_bench.engines import infer
from cifar_lib import InputError

try:
    print(infer.build())
except InputError as error:
    sys.exit(str(error))
