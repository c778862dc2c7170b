-- What `litellm-credits status` tells of a migrated database.

-- name: server
SELECT current_setting('server_version') AS version;

-- name: totals
-- Who there is, and all balances together.
SELECT (SELECT count(*) FROM credits.organizations) AS organizations,
       (SELECT count(*) FROM credits.teams) AS teams,
       (SELECT count(*) FROM credits.teams WHERE status = 'suspended') AS teams_suspended,
       coalesce(sum(credits_allocated), 0) AS credits_allocated,
       coalesce(sum(credits_used), 0) AS credits_used,
       coalesce(sum(credits_held), 0) AS credits_held,
       coalesce(sum(credits_remaining), 0) AS credits_remaining
  FROM credits.team_credits;

-- name: holds
-- Calls in flight. Those whose lease ran out wait for the sweeper: their worker died.
SELECT count(*) AS calls_held,
       count(*) FILTER (WHERE lease_until < now()) AS calls_held_overdue,
       min(created_at) AS oldest_hold,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::int AS oldest_hold_seconds
  FROM credits.llm_calls WHERE status = 'held';
