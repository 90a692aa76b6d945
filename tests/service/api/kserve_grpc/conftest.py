"""Tests with a process of their own, which `tests/service/api/test_kserve_grpc.py` starts.

The names of protobuf messages are unique in a process, and tritonclient, which other tests import, has messages with
the same names.
"""

import os

OWN_PROCESS = "CIFAR10_TEST_OWN_PROCESS"

collect_ignore_glob = [] if OWN_PROCESS in os.environ else ["test_*.py"]
