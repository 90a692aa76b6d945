"""Attacks a service with generated requests, and counts what should not have happened.

    python -m scripts.attack --requests 50000 --seed 1

It starts a service of its own on a free port, or takes the one at `--url`, which must be on the loopback interface.
Each kind of request has a generator; what a generator makes depends on the seed and the request's number alone, so a
run, or any one request of it, can be repeated. `docs/reliability.md` says what the columns of its table mean.
"""
