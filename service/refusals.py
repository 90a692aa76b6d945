"""Tells metrics, statistics and log of the requests that were refused before they began, all together once a second.

Each by itself would cost more than its refusal. What is refused later is a request like any other
(`service.observing`).
"""

import asyncio
import logging
from typing import Final

from service.core.backlog import Backlog
from service.metrics import Metrics
from service.model_statistics import ModelStatistics
from service.statistics import Statistics

TELL_EVERY_S: Final = 1.0

logger = logging.getLogger(__name__)


async def tell_refused(
    backlog: Backlog, metrics: Metrics, statistics: Statistics, model_statistics: ModelStatistics
) -> None:
    """Tell until cancelled."""
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        for version, requests in backlog.take_refused().items():
            metrics.requests_refused(version, requests)
            statistics.requests_refused(requests)
            whose = ""
            if version is not None:
                model_statistics.requests_refused(*version, requests)
                whose = f" for {version[0]} version {version[1]}"
            logger.warning("%d requests%s were refused at once within %g s: too many", requests, whose, TELL_EVERY_S)
