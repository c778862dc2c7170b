-- A database as it is after long use. Columns that are not named take their defaults, so that this survives new ones.

-- name: quietly
-- Without triggers and foreign keys, whose checks would take most of the time; the rows fit each other by construction.
SET session_replication_role = replica;

-- name: organizations
-- Of ten teams each.
INSERT INTO credits.organizations (organization_id, name)
SELECT 'filled-' || n, 'Filled' FROM generate_series(0, %(teams)s::int / 10) n;

-- name: teams
INSERT INTO credits.teams (team_id, organization_id)
SELECT 'filled-' || n, 'filled-' || n / 10 FROM generate_series(1, %(teams)s::int) n;

-- name: balances
INSERT INTO credits.team_credits (team_id, organization_id, credits_allocated, credits_remaining)
SELECT 'filled-' || n, 'filled-' || n / 10, 1000000, 1000000 FROM generate_series(1, %(teams)s::int) n;

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
INSERT INTO credits.jobs (job_id, team_id, organization_id, job_type, created_at)
SELECT md5('job-' || n)::uuid, 'filled-' || 1 + n %% %(teams)s::int, 'filled-' || (1 + n %% %(teams)s::int) / 10, 'filled', now() - n * interval '1 minute'
  FROM generate_series(1, %(jobs)s::int) n;

-- name: calls
-- Settled calls number `first` to `last`, two a second, of which one in ten belongs to a job.
INSERT INTO credits.llm_calls (
  call_id, job_id, team_id, endpoint, status, basis, requested_model, model_group_used, model_alias, pricing_input,
  pricing_output, prompt_tokens, completion_tokens, total_tokens, cost_usd, credits_held, credits_charged, stream, latency_ms,
  request_data, response_data, worker_id, created_at, settled_at, lease_until)
SELECT md5('call-' || n)::uuid, CASE WHEN n %% 10 = 0 THEN md5('job-' || 1 + n / 10 %% %(jobs)s::int)::uuid END,
       'filled-' || 1 + n %% %(teams)s::int, '/v1/chat/completions', 'settled', 'provider_usage', 'gpt', 'gpt', 'gpt', 0.0005,
       0.0015, 15, 8, 23, 0.0000195, 0.0006, 0.000195, false, 800,
       '{"model": "gpt", "messages": [{"role": "user", "content": "a b c"}]}',
       '{"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}]}',
       '00000000-0000-0000-0000-000000000000', at, at, at
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n, LATERAL (SELECT now() - interval '90 days' + n * interval '0.5 s') moment(at);

-- name: entries
INSERT INTO credits.credit_transactions (
  account_id, team_id, organization_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
SELECT a.account_id, a.team_id, a.organization_id, md5('call-' || n)::uuid, 'charge', -0.000195, 1, 0.999805,
       'call gpt: provider_usage 0.000195'
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
  JOIN credits.team_credits a ON a.team_id = 'filled-' || 1 + n %% %(teams)s::int;

-- name: plainly
SET session_replication_role = origin;

-- name: analyze
VACUUM ANALYZE;
