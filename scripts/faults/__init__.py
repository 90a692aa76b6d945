"""Injects faults into a running service under load, and tells what happened and how long it took to recover.

    python -m scripts.faults

Each fault has a service of its own on a loopback port. The table is in `docs/reliability.md`.
"""
