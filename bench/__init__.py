"""Benchmark of our server, the alternatives and two kinds of baseline, measured in one run and reported as ratios.

`python -m bench` (or `make bench`) runs it; bench/__main__.py is the command line.
"""
