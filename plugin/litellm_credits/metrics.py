"""What an operator should be told of: Prometheus counters, on GET /api/metrics and on LiteLLM's own /metrics.

With several workers set PROMETHEUS_MULTIPROC_DIR, as for any Python service; else each scrape sees one worker.
"""

from prometheus_client import Counter

CALLS_ENDED = Counter("litellm_credits_calls_ended", "Calls that ended, by how.", ["status", "basis"])
HOLDS_REFUSED = Counter("litellm_credits_holds_refused", "Holds that did not fit, or could not be tried.", ["reason"])
SETTLES_LATE = Counter(
    "litellm_credits_settles_late",
    "Answers delivered before their settle was durable, because the ledger did not answer.",
)
SETTLES_LOST = Counter(
    "litellm_credits_settles_lost", "Settles given up in this process and left to the lease of their hold."
)
BOUND_EXCEEDED = Counter("litellm_credits_bound_exceeded", "Calls that cost more than was held for them.")
UNCOLLECTED = Counter("litellm_credits_uncollected", "Calls that cost more than the balance could pay.")
ENDED_BY_RING = Counter("litellm_credits_ended_by_ring", "Calls that no hook of LiteLLM's ended.")
EXPIRED = Counter("litellm_credits_expired", "Holds ended because the lease of a dead worker ran out.")
