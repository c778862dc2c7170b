"""The commands that stand for routes of the API, one a line: litellm_credits.cli.remote makes commands of them.

A command's arguments are the parameters of its route's path, in order, and then the bare names in `fields`; the other fields are
options: `--flag`, where the field has another name `--flag:field`, with `=kind` unless it is text, and `!` when it is required.
They go into the body, or into the query where the route reads. Kinds: int; number (exact, as it was typed); json (an object);
many (may be repeated); yes (true when it is given).
"""

from dataclasses import dataclass

GROUPS = {
    "org": "Organizations: your customers, who own teams.",
    "team": "Teams: who calls, and on which terms.",
    "key": "A team's virtual keys. The clear key is shown once, by create and rotate.",
    "alias": "Model aliases: the names that teams call, and their prices.",
    "group": "Access groups: which aliases a team may call.",
    "credits": "Balances and the ledger.",
    "grant": "Grants: credits on terms, which a team's balance is made of.",
    "refill": "Credits that come by themselves: each period, or asked for when the balance falls low.",
    "job": "Jobs: a team's own units of work.",
    "audit": "Who changed what by hand, when and from where.",
}


@dataclass(frozen=True, slots=True)
class Command:
    """`rows` names the list in the answer ("." when the answer is one), and `columns` what a table shows of its rows; what else
    is answered is shown above, but for what the path names."""

    name: str
    route: str
    help: str
    fields: str = ""
    rows: str = ""
    columns: str = ""

    @property
    def group(self) -> str:
        """The first word of the name."""
        return self.name.split()[0]

    @property
    def verb(self) -> str:
        """The second word of the name."""
        return self.name.split()[1]

    @property
    def method(self) -> str:
        """HTTP's."""
        return self.route.split()[0]

    @property
    def path(self) -> str:
        """Under /api."""
        return self.route.split()[1]


_AFTER = "--limit=int --after"
_BEFORE = "--limit=int --before"
_JOBS = (
    f"--status --type:job_type --user:user_id --task:external_task_id --parent:parent_job_id --start --end {_BEFORE}"
)
_CALLS = f"--status --model:model_alias --purpose --key-id --flag --start --end {_BEFORE}"
_LIMITS = "--rpm-limit=int --tpm-limit=int"
_TEAM = f"--name:team_alias --group:access_groups=many --plan=json --metadata=json --overdraft:overdraft_limit=number {_LIMITS}"
_KEY = f"--name --expires-at --allow:allowed_aliases=many --credit-limit=number {_LIMITS}"
_ALIAS = (
    "--display-name --description --price-input:pricing_input=number --price-output:pricing_output=number "
    "--rates:pricing_rates=json --max-output-tokens=int --group:access_groups=many"
)
_GROUP = "--display-name --description --alias:model_aliases=many"
_GRANT = (
    "--reason --kind --priority=int --effective-at --expires-at --alias:model_aliases=many --job-type:job_types=many "
    "--rollover:rollover_credits=number --rollover-days=int"
)
_REFILL = (
    "--period --credits=number --starts-at --kind --lapses=yes --rollover:rollover_credits=number "
    "--threshold=number --target=number --monthly-cap=number"
)

_JOB_ROW = "job_id job_type status credit_cap credits_held user_id external_task_id created_at completed_at"
_CALL_ROW = "call_id model_alias status basis total_tokens cost_usd credits_charged purpose created_at"
_TEAM_ROW = "team_id organization_id status credits_remaining credits_held access_groups"
_KEY_ROW = "key_id key_prefix name status expires_at credit_limit last_used_at"
_ALIAS_ROW = "model_alias provider actual_model pricing_input pricing_output status"
_GRANT_ROW = "grant_id kind status priority credits_granted credits_used credits_held credits_left expires_at reason"
_REQUEST_ROW = "request_id team_id status credits balance created_at closed_at"
_AUDIT_ROW = "audit_id created_at actor actor_key client_address action subject subject_id before after"

COMMANDS = (
    Command("org create", "POST /organizations/create", "Add one.", "organization_id --name! --metadata=json"),
    Command("org list", "GET /organizations", "All of them.", _AFTER, ".", "organization_id name status created_at"),
    Command("org show", "GET /organizations/{organization_id}", "One of them."),
    Command("org teams", "GET /organizations/{organization_id}/teams", "Its teams.", _AFTER, "teams", _TEAM_ROW),
    Command(
        "org jobs",
        "GET /organizations/{organization_id}/jobs",
        "Its teams' jobs.",
        _JOBS,
        "jobs",
        f"team_id {_JOB_ROW}",
    ),
    Command(
        "org calls",
        "GET /organizations/{organization_id}/calls",
        "Its teams' calls.",
        _CALLS,
        "calls",
        f"team_id {_CALL_ROW}",
    ),
    Command("org usage", "GET /organizations/{organization_id}/usage", "What its teams used.", "--start --end"),
    Command("org suspend", "PUT /organizations/{organization_id}/suspend", "Refuse its teams' keys."),
    Command("org pause", "PUT /organizations/{organization_id}/pause", "Take no more calls of its teams."),
    Command("org resume", "PUT /organizations/{organization_id}/resume", "End a suspension or pause."),
    Command(
        "org delete", "DELETE /organizations/{organization_id}", "Delete it with its teams and all that is theirs."
    ),
    Command(
        "team create",
        "POST /teams/create",
        "Add a team, with a key that only this shows.",
        f"team_id --org:organization_id! --credits:credits_allocated=number {_TEAM}",
    ),
    Command("team list", "GET /teams", "All of them.", _AFTER, ".", _TEAM_ROW),
    Command("team show", "GET /teams/{team_id}", "One of them."),
    Command("team update", "PUT /teams/{team_id}", "Change what is given.", _TEAM),
    Command("team suspend", "PUT /teams/{team_id}/suspend", "Refuse its keys."),
    Command("team pause", "PUT /teams/{team_id}/pause", "Take no more of its calls."),
    Command("team resume", "PUT /teams/{team_id}/resume", "End a suspension or pause."),
    Command(
        "team groups", "PUT /teams/{team_id}/access-groups", "Replace its access groups.", "--group:access_groups=many!"
    ),
    Command("team usage", "GET /teams/{team_id}/usage", "What it used.", "--start --end"),
    Command("team jobs", "GET /teams/{team_id}/jobs", "Its jobs, newest first.", _JOBS, "jobs", _JOB_ROW),
    Command("team calls", "GET /teams/{team_id}/calls", "Its calls, newest first.", _CALLS, "calls", _CALL_ROW),
    Command(
        "team refill-requests",
        "GET /credits/teams/{team_id}/refill-requests",
        "Its refill requests, newest first.",
        f"--status {_BEFORE}",
        "requests",
        _REQUEST_ROW,
    ),
    Command("team delete", "DELETE /teams/{team_id}", "Delete it with all that is its own; the ledger stays."),
    Command("key create", "POST /teams/{team_id}/keys", "Add a key.", _KEY),
    Command("key list", "GET /teams/{team_id}/keys", "A team's keys, newest first.", _BEFORE, "keys", _KEY_ROW),
    Command("key show", "GET /teams/{team_id}/keys/{key_id}", "One of them."),
    Command("key update", "PUT /teams/{team_id}/keys/{key_id}", "Change what is given.", _KEY),
    Command("key revoke", "DELETE /teams/{team_id}/keys/{key_id}", "Refuse it from now on."),
    Command(
        "key rotate",
        "POST /teams/{team_id}/keys/{key_id}/rotate",
        "Put another in its place.",
        "--overlap:overlap_seconds=int --expires-at",
    ),
    Command(
        "alias create",
        "POST /models/aliases/create",
        "Add one.",
        f"model_alias --provider! --model:actual_model! {_ALIAS}",
    ),
    Command("alias list", "GET /models/aliases", "All of them.", _AFTER, ".", _ALIAS_ROW),
    Command("alias show", "GET /models/aliases/{model_alias}", "One of them."),
    Command(
        "alias update",
        "PUT /models/aliases/{model_alias}",
        "Change what is given.",
        f"--provider --model:actual_model --status {_ALIAS}",
    ),
    Command("alias delete", "DELETE /models/aliases/{model_alias}", "Delete it, also out of its groups."),
    Command("group create", "POST /model-access-groups/create", "Add one.", f"group_name {_GROUP}"),
    Command("group list", "GET /model-access-groups", "All of them.", _AFTER, ".", "group_name status model_aliases"),
    Command("group show", "GET /model-access-groups/{group_name}", "One of them."),
    Command("group update", "PUT /model-access-groups/{group_name}", "Change what is given.", f"--status {_GROUP}"),
    Command(
        "group models",
        "PUT /model-access-groups/{group_name}/models",
        "Replace its aliases.",
        "--alias:model_aliases=many!",
    ),
    Command("group delete", "DELETE /model-access-groups/{group_name}", "Delete it, if no team has it."),
    Command(
        "credits add",
        "POST /credits/teams/{team_id}/add",
        "Add credits.",
        "credits=number --reason",
    ),
    Command(
        "credits adjust",
        "POST /credits/teams/{team_id}/adjust",
        "Correct a balance, up or down.",
        "credits=number --reason!",
    ),
    Command("credits balance", "GET /credits/teams/{team_id}/balance", "What a team has.", "", "grants", _GRANT_ROW),
    Command(
        "credits ledger",
        "GET /credits/teams/{team_id}/transactions",
        "A team's ledger, newest first.",
        _BEFORE,
        "transactions",
        "transaction_id created_at transaction_type credits_amount credits_after reason",
    ),
    Command(
        "credits refund",
        "POST /credits/refund",
        "Give back what a call or a job was charged; without --credits, all of it.",
        "--call:call_id --job:job_id --credits=number --reason!",
    ),
    Command(
        "grant create", "POST /credits/teams/{team_id}/grants", "Give credits on terms.", f"credits=number {_GRANT}"
    ),
    Command(
        "grant list",
        "GET /credits/teams/{team_id}/grants",
        "A team's grants, newest first.",
        _BEFORE,
        "grants",
        _GRANT_ROW,
    ),
    Command(
        "grant void",
        "POST /credits/teams/{team_id}/grants/{grant_id}/void",
        "Take back what is neither spent nor held of it.",
        "--reason",
    ),
    Command("refill set", "PUT /credits/teams/{team_id}/refill", "Replace a team's refills.", _REFILL),
    Command("refill show", "GET /credits/teams/{team_id}/refill", "A team's refills."),
    Command("refill stop", "DELETE /credits/teams/{team_id}/refill", "End a team's refills; what they gave stays."),
    Command(
        "refill requests",
        "GET /credits/refill-requests",
        "All teams' requests, newest first.",
        f"--status {_BEFORE}",
        "requests",
        _REQUEST_ROW,
    ),
    Command(
        "refill fulfil",
        "POST /credits/teams/{team_id}/refill-requests/{request_id}/fulfil",
        "Answer a request with the credits it asks for.",
        "--reason",
    ),
    Command(
        "job create",
        "POST /jobs/create",
        "Open one.",
        "job_type --team:team_id --user:user_id --task:external_task_id --parent:parent_job_id --metadata=json "
        "--credit-cap=number --expires-at --on-expiry",
    ),
    Command("job list", "GET /jobs", "The jobs of the team whose key is used.", _JOBS, "jobs", _JOB_ROW),
    Command("job show", "GET /jobs/{job_id}", "One of them."),
    Command("job annotate", "PATCH /jobs/{job_id}/metadata", "Set keys of its metadata.", "--metadata=json!"),
    Command(
        "job complete",
        "POST /jobs/{job_id}/complete",
        "Close it.",
        "status --error:error_message --metadata=json",
        "calls",
        "call_id model_alias status basis tokens cost_usd credits_charged purpose",
    ),
    Command("job costs", "GET /jobs/{job_id}/costs", "What it cost until now."),
    Command("job calls", "GET /jobs/{job_id}/calls", "Its calls, oldest first.", _AFTER, "calls", _CALL_ROW),
    Command("job delete", "DELETE /jobs/{job_id}", "Delete it with its calls; the ledger stays."),
    Command(
        "audit list",
        "GET /audit",
        "Entries, newest first.",
        "--org:organization_id --team:team_id --subject --id:subject_id --actor --request:request_id --start --end "
        + _BEFORE,
        "entries",
        _AUDIT_ROW,
    ),
)

QUOTE = Command(
    "quote",
    "POST /quote",
    "What REQUEST, the JSON body of a call, would hold, at which prices, and whether it fits. Nothing is sent to a provider.",
    rows="prices",
    columns="model_alias pricing_input pricing_output pricing_rates",
)
"""The one command whose body is the caller's own document."""
