"""Builds the C++ program and says where it lies, so that it can be used by itself."""

import sys

from cifar_lib import InputError
from cifar_lib.engines import infer

try:
    print(infer.build())
except InputError as error:
    sys.exit(str(error))
