"""What the routes work with: the services of the rooms below, over one engine."""

from typing import Annotated

from fastapi import Depends, Request

from litellm_credits.catalog.aliases import Aliases
from litellm_credits.catalog.groups import Groups
from litellm_credits.engine import Engine
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.jobs.usage import Usage
from litellm_credits.ledger.grants import Grants
from litellm_credits.ledger.refills import Refills
from litellm_credits.ledger.refunds import Refunds
from litellm_credits.tenancy.audit import AuditLog
from litellm_credits.tenancy.organizations import Organizations
from litellm_credits.tenancy.teams import Teams
from litellm_credits.tenancy.virtual_keys import VirtualKeys


class Services:
    """One of each."""

    def __init__(self, engine: Engine) -> None:
        self.db = engine.db
        self.ledger = engine.ledger
        self.audit = AuditLog(engine.db)
        self.grants = Grants(engine.db)
        self.refunds = Refunds(engine.db)
        self.refills = Refills(engine.db)
        self.organizations = Organizations(engine.db)
        self.teams = Teams(engine.db)
        self.keys = VirtualKeys(engine.db)
        self.aliases = Aliases(engine.db)
        self.groups = Groups(engine.db)
        self.jobs = Jobs(engine.db)
        self.usage = Usage(engine.db)


def services(request: Request) -> Services:
    """The services of the application that takes this request."""
    found: Services = request.app.state.services
    return found


InServices = Annotated[Services, Depends(services)]
