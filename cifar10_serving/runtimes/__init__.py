"""Loads a published version and computes with it: one Protocol, two implementations.

The same code measures a version's stored accuracy in training and answers requests in the service, so that
what is printed is what is served. Imports the catalog only; TensorFlow and OpenVINO are each imported by one
module of this package, and only when that runtime is opened.
"""

from cifar10_serving.runtimes.telemetry import disable_telemetry

disable_telemetry()  # here, so that no module of the package can import OpenVINO before
