"""Our server, the alternatives to it and two kinds of floor, measured in one run and told as ratios.

`python -m bench` (or `make bench`) runs it; bench/__main__.py is the command line.
"""
