-- A database as it is after long use. Columns that are not named take their defaults, so that this survives new ones. Amounts fit
-- the constraints; they do not add up as the ledger's do.

-- name: quietly
-- Without triggers and foreign keys, whose checks would take most of the time; the rows fit each other by construction.
SET session_replication_role = replica;

-- name: call_ids
-- Ordered by time, as the ledger's are.
CREATE FUNCTION pg_temp.call_id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT (lpad(to_hex(n), 12, '0') || '7' || substr(md5('call-' || n), 14, 3) || '8' || substr(md5('call-' || n), 18))::uuid $$;

-- name: organizations
-- Of ten teams each.
INSERT INTO credits.organizations (organization_id, name)
SELECT 'filled-' || n, 'Filled' FROM generate_series(0, %(teams)s::int / 10) n;

-- name: teams
INSERT INTO credits.teams (team_id, organization_id)
SELECT 'filled-' || n, 'filled-' || n / 10 FROM generate_series(1, %(teams)s::int) n;

-- name: balances
-- The last `earmarked` teams have as much again in a grant of their own terms.
INSERT INTO credits.team_credits (team_id, organization_id, credits_allocated, credits_remaining, credits_earmarked)
SELECT 'filled-' || n, 'filled-' || n / 10, 1000000 + own, 1000000 + own, own
  FROM generate_series(1, %(teams)s::int) n, LATERAL (SELECT CASE WHEN n > %(teams)s - %(earmarked)s THEN 1000000 ELSE 0 END) earmarked(own);

-- name: grants
INSERT INTO credits.credit_grants (team_id, kind, credits_granted, earmarked, reason)
SELECT 'filled-' || n, 'paid', 1000000, false, 'filled' FROM generate_series(1, %(teams)s::int) n;

-- name: live_grants
INSERT INTO credits.credit_grants (team_id, kind, credits_granted, earmarked, expires_at, reason)
SELECT 'filled-' || n, 'promotional', 1000000, true, now() + interval '1 year', 'filled'
  FROM generate_series(1 + %(teams)s - %(earmarked)s, %(teams)s::int) n;

-- name: ended_grants
-- Two a team, spent and past their time.
INSERT INTO credits.credit_grants (grant_id, team_id, kind, credits_granted, credits_used, earmarked, expires_at, ended_at, reason)
SELECT md5('grant-' || n)::uuid, 'filled-' || 1 + n %% %(teams)s, 'promotional', 10, 10, true, at, at, 'filled'
  FROM generate_series(1, 2 * %(teams)s::int) n, LATERAL (SELECT now() - n %% 90 * interval '1 day') moment(at);

-- name: refills
-- Of one team in five; none is due, nor is any balance low.
INSERT INTO credits.refills (team_id, period, credits, starts_at, next_at, threshold, target)
SELECT 'filled-' || n, 'monthly', 10, at, at + interval '91 days', 1, 2
  FROM generate_series(1, %(teams)s::int, 5) n, LATERAL (SELECT now() - n %% 90 * interval '1 day') moment(at);

-- name: requests
INSERT INTO credits.refill_requests (team_id, credits, balance, status, created_at, closed_at)
SELECT 'filled-' || 1 + n %% %(teams)s, 10, 0.5, 'fulfilled', at, at
  FROM generate_series(1, %(teams)s::int) n, LATERAL (SELECT now() - n %% 90 * interval '1 day') moment(at);

-- name: claims
-- Of requests with an Idempotency-Key, two a team, answered and still kept.
INSERT INTO credits.idempotency_keys (
  scope, method, path, idempotency_key, fingerprint, claim_id, lease_until, done, status, answer, expires_at)
SELECT 'team:filled-' || 1 + n %% %(teams)s, 'POST', '/api/jobs/create', 'key-' || n, repeat('0', 64), md5('claim-' || n)::uuid,
       now(), true, 200, '\x00', now() + interval '1 day'
  FROM generate_series(1, 2 * %(teams)s::int) n;

-- name: audit
-- Two entries a team.
INSERT INTO credits.audit_log (actor, actor_key, action, organization_id, team_id, subject, subject_id, change, after)
SELECT 'admin', '0123456789abcdef', 'PUT /teams/{team_id}', 'filled-' || team / 10, 'filled-' || team, 'teams', 'filled-' || team,
       'update', '{"team_alias": "Filled"}'
  FROM generate_series(1, 2 * %(teams)s::int) n, LATERAL (SELECT 1 + n %% %(teams)s) t(team);

-- name: keys
INSERT INTO credits.virtual_keys (key_hash, key_prefix, team_id)
SELECT encode(sha256(('key-' || n)::bytea), 'hex'), 'sk-filled', 'filled-' || 1 + n %% %(teams)s::int
  FROM generate_series(1, %(keys)s::int) n;

-- name: aliases
INSERT INTO credits.model_aliases (model_alias, provider, actual_model, pricing_input, pricing_output)
SELECT 'filled-' || n, 'openai', 'gpt-3.5-turbo', 0.0005, 0.0015 FROM generate_series(1, %(aliases)s::int) n;

-- name: groups
INSERT INTO credits.model_access_groups (group_name)
SELECT 'filled-' || n FROM generate_series(1, greatest(1, %(aliases)s::int / 10)) n;

-- name: members
INSERT INTO credits.model_alias_access_groups (group_name, model_alias, position)
SELECT 'filled-' || 1 + n %% greatest(1, %(aliases)s::int / 10), 'filled-' || n, n
  FROM generate_series(1, %(aliases)s::int) n;

-- name: access
INSERT INTO credits.team_access_groups (team_id, group_name, position)
SELECT 'filled-' || n, 'filled-' || 1 + n %% greatest(1, %(aliases)s::int / 10), 0 FROM generate_series(1, %(teams)s::int) n;

-- name: jobs
-- Of which one in ten is open.
INSERT INTO credits.jobs (job_id, team_id, organization_id, job_type, status, created_at, expires_at)
SELECT md5('job-' || n)::uuid, 'filled-' || team, 'filled-' || team / 10, 'filled',
       CASE WHEN n %% 10 = 0 THEN 'in_progress' ELSE 'completed' END::credits.job_status,
       now() - n * interval '1 minute', now() + interval '1 year'
  FROM generate_series(1, %(jobs)s::int) n, LATERAL (SELECT 1 + n %% %(teams)s::int) t(team);

-- name: calls
-- Settled calls number `first` to `last`, two a second, of which one in ten belongs to a job.
INSERT INTO credits.llm_calls (
  call_id, job_id, team_id, endpoint, status, basis, requested_model, model_group_used, model_alias, pricing_input,
  pricing_output, prompt_tokens, completion_tokens, total_tokens, cost_usd, credits_held, credits_charged, stream, latency_ms,
  request_data, response_data, worker_id, created_at, settled_at, lease_until)
SELECT pg_temp.call_id(n), CASE WHEN n %% 10 = 0 THEN md5('job-' || 1 + n / 10 %% %(jobs)s::int)::uuid END,
       'filled-' || 1 + n %% %(teams)s::int, '/v1/chat/completions', 'settled', 'provider_usage', 'gpt', 'gpt', 'gpt', 0.0005,
       0.0015, 15, 8, 23, 0.0000195, 0.0006, 0.000195, false, 800,
       '{"model": "gpt", "messages": [{"role": "user", "content": "a b c"}]}',
       '{"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}]}',
       '00000000-0000-0000-0000-000000000000', at, at, at
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n, LATERAL (SELECT now() - interval '90 days' + n * interval '0.5 s') moment(at);

-- name: entries
INSERT INTO credits.credit_transactions (
  account_id, team_id, organization_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
SELECT a.account_id, a.team_id, a.organization_id, pg_temp.call_id(n), 'charge', -0.000195, 1, 0.999805,
       'call gpt: provider_usage 0.000195'
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
  JOIN credits.team_credits a ON a.team_id = 'filled-' || 1 + n %% %(teams)s::int;

-- name: draws
-- What one call in ten was charged to an ended grant.
INSERT INTO credits.grant_draws (holder_id, grant_id, credits_held, credits_charged)
SELECT pg_temp.call_id(n), md5('grant-' || 1 + n %% (2 * %(teams)s))::uuid, 0, 0.000195
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n WHERE n %% 10 = 0;

-- name: plainly
SET session_replication_role = origin;

-- name: analyze
VACUUM ANALYZE;
