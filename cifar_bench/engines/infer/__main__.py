"""Builds the C++ program and says where it lies, so that it can be used by itself."""

import sys

from cifar_bench.engines import infer
from cifar_lib import InputError

try:
    print(infer.build())
except InputError as error:
    sys.exit(str(error))
