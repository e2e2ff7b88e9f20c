"""Builds the C++ program and says where it lies, so that it can be used by itself."""

import sys

from cifar_lib import InputError, cpp

try:
    print(cpp.build())
except InputError as error:
    sys.exit(str(error))
