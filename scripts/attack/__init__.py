"""Attack a service with generated requests, and count unexpected outcomes.

    python -m scripts.attack --requests 50000 --seed 1

It starts its own service on a free port, or attacks the one at `--url`, which must be on the loopback interface. Each
kind of request has a generator. Its output depends only on the seed and the request's number, so a run, or any single
request, can be repeated. `docs/reliability.md` explains the columns of the table.
"""
