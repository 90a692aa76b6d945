"""Batch scoring: classify a whole data set without HTTP, on one machine or with Ray Data on several.

`sources` cuts the input into parts, `scorer` computes the answers of a part, `output` writes them, and `run` and
`on_ray` drive the parts through. A part is written once, whole, under a name that depends on its inputs: that makes a
run resumable, on one machine and on many. docs/scoring.md describes the formats.
"""
