"""Runtimes: load a published version and compute. One Protocol, two implementations.

Training uses the same code to measure a version's accuracy as the service to answer requests, so the printed accuracy
is the served one. TensorFlow and OpenVINO are each imported by one module of this package, when that runtime is opened.
"""

from cifar10_serving.runtimes.telemetry import disable_telemetry

disable_telemetry()  # here, before any module of the package can import OpenVINO
