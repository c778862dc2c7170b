"""What comes to pass by itself at its time: grants and jobs that expire, refills that are due. Any worker sees to it, once."""

import asyncio
import logging
import random

import psycopg

from litellm_credits.db.database import Database
from litellm_credits.errors import LedgerUnavailable
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.ledger.grants import Grants
from litellm_credits.ledger.refills import Refills

log = logging.getLogger("litellm_credits.jobs")

PAUSE_SECONDS = 10.0
"""Between two sweeps of a worker. What has expired pays for nothing from its time on, whenever it is swept."""


class Sweeper:
    """Looks for what is due, again and again."""

    def __init__(self, db: Database) -> None:
        self._grants, self._jobs, self._refills = Grants(db), Jobs(db), Refills(db)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(1, 1.5))  # noqa: S311 (so that workers do not sweep in step)
            try:
                await self.sweep()
            except (LedgerUnavailable, psycopg.Error):
                log.warning("what is due could not be swept", exc_info=True)

    async def sweep(self) -> None:
        """Bring about all that is due. Jobs first: what they held may be of a grant that has expired."""
        if closed := await self._jobs.end_expired():
            log.info("%d jobs expired", closed)
        if begun := await self._refills.grant_due():
            log.info("%d refills were granted", begun)
        if taken := await self._grants.end_expired():
            log.info("expired grants made %d ledger entries", taken)
        if asked := await self._refills.ask():
            log.info("%d refills are asked for", asked)
