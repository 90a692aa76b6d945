"""Triton Inference Server, from PyPI's nvidia-pytriton, with its Python backend and OpenVINO."""
