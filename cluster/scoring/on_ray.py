"""Scoring on the machines of a Ray cluster: Ray Data gives the parts to one actor on each node.

Only the parts' names and counts pass through Ray. Each actor reads its images and writes its files itself, so input,
output and model have the same paths, or addresses, on every node. If a node ends, Ray gives its parts to
another; they are written under the same names, so every input still has one row.
"""

import logging
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ray
import ray.data

from cluster.scoring.errors import ScoringError
from cluster.scoring.output import Counts
from cluster.scoring.progress import Progress
from cluster.scoring.run import Job, Worker
from cluster.scoring.scorer import PartDone
from cluster.scoring.sources import Part

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LOCAL: Final = "local"
PARTS_A_TASK: Final = 2
"""Parts that an actor gets at once, so that its threads need not wait for the last chunk of one."""
CONNECT_LIMIT_S: Final = 10.0
MIN_BLOCKS_A_NODE: Final = 8
"""Blocks of parts for each node, so that all end at about the same time."""


class RayCrew:
    """One actor on each node of a cluster.

    Args:
        job: what to do.
        address: of the cluster, or `auto`; `local` starts one on this machine.
    """

    def __init__(self, job: Job, address: str) -> None:
        self._job = job
        self._address = address

    def run(self, parts: Iterator[Part], progress: Progress) -> Iterator[PartDone]:
        """See `Crew.run`."""
        todo = list(parts)
        if not todo:
            return
        self._connect()
        try:
            yield from self._results(todo, progress)
        except ray.exceptions.RayError as error:
            reason = str(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)
            raise ScoringError(
                f"Ray has ended the run: {reason.strip().splitlines()[-1]}",
                remedy="run the same command again to continue",
            ) from None

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing that this project starts contacts a host
        if ray.is_initialized():
            return
        try:
            self._reach()
            ray.init(
                None if self._address == LOCAL else self._address,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                logging_level=logging.WARNING,
                log_to_driver=False,
                **({"include_dashboard": False} if self._address == LOCAL else {}),
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ScoringError(f"there is no Ray cluster at {self._address}: {error}") from None

    def _reach(self) -> None:
        """Connect to HOST:PORT, which Ray itself would try for minutes.

        Raises:
            OSError: nothing answers there.
        """
        host, _, port = self._address.removeprefix("ray://").rpartition(":")
        if host and port.isdigit():
            socket.create_connection((host, int(port)), CONNECT_LIMIT_S).close()

    def _results(self, todo: list[Part], progress: Progress) -> Iterator[PartDone]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        cores = [
            int(node["Resources"]["CPU"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")
        ]
        if not cores:
            raise ScoringError("the Ray cluster has no node with a CPU")
        sizes = {part.number: part.size for part in todo}
        items = [{"part": pickle.dumps(part)} for part in todo]
        blocks = min(len(items), MIN_BLOCKS_A_NODE * len(cores))
        # An actor uses all cores of its node. It asks for a third, so that there is room for the one of a node that
        # has ended; spreading gives each node one.
        rows = (
            ray.data.from_items(items, override_num_blocks=blocks)
            .map_batches(
                _RayWorker,
                fn_constructor_args=(self._job,),
                batch_size=PARTS_A_TASK,
                batch_format="numpy",
                num_cpus=min(cores) / 3,
                scheduling_strategy="SPREAD",
                concurrency=len(cores),
            )
            .iter_rows()
        )
        for row in rows:
            counts = Counts(int(row["rows"]), int(row["errors"]))
            progress.scored(sizes[int(row["number"])], counts.rows, counts.errors)
            yield PartDone(int(row["number"]), counts)


class _RayWorker:
    """An actor: loads the model once, and scores batches of parts."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        done = list(self._worker.run(pickle.loads(part) for part in batch["part"]))  # noqa: S301  # the driver's own
        return {
            "number": [part.number for part in done],
            "rows": [part.counts.rows for part in done],
            "errors": [part.counts.errors for part in done],
        }
