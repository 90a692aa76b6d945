"""Inject faults into a running service under load, and report the effect and the recovery time.

    python -m scripts.faults

Each fault gets its own service on a loopback port. The table is in `docs/reliability.md`.
"""
