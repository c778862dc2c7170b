-- Jobs, and what their calls and their team's calls cost.

-- name: create_job
-- No row when there is no such team.
INSERT INTO credits.jobs (team_id, organization_id, user_id, external_task_id, job_type, metadata, expires_at, on_expiry)
SELECT team_id, organization_id, %(user_id)s, %(external_task_id)s, %(job_type)s, %(metadata)s::jsonb, %(expires_at)s,
       %(on_expiry)s::credits.job_expiry
  FROM credits.teams WHERE team_id = %(team_id)s FOR KEY SHARE
RETURNING *;

-- name: plan_of
SELECT plan FROM credits.teams WHERE team_id = %(team_id)s;

-- name: job
SELECT * FROM credits.jobs WHERE job_id = %(job_id)s;

-- name: jobs
-- A page of a team's jobs, newest first.
SELECT * FROM credits.jobs
 WHERE team_id = %(team_id)s
   AND (created_at, job_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                               coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
   AND (%(status)s::credits.job_status IS NULL OR status = %(status)s::credits.job_status)
 ORDER BY created_at DESC, job_id DESC LIMIT %(limit)s;

-- name: merge_metadata
-- Shallow: a key given here replaces the one before. No row when the job is gone or the result would be too large.
UPDATE credits.jobs SET metadata = metadata || %(metadata)s::jsonb
 WHERE job_id = %(job_id)s AND octet_length((metadata || %(metadata)s::jsonb)::text) <= %(most_bytes)s
RETURNING *;

-- name: lock_job
SELECT job_id FROM credits.jobs WHERE job_id = %(job_id)s FOR UPDATE;

-- name: delete_job
DELETE FROM credits.jobs WHERE job_id = %(job_id)s;

-- name: job_costs
-- Successful: settled without an error. Failed: voided, expired or settled with an error. The rest is in flight.
SELECT count(*) AS total_calls,
       count(*) FILTER (WHERE status = 'settled' AND error IS NULL) AS successful_calls,
       count(*) FILTER (WHERE status IN ('voided', 'expired') OR error IS NOT NULL) AS failed_calls,
       coalesce(sum(total_tokens), 0)::bigint AS total_tokens,
       coalesce(sum(cost_usd), 0) AS total_cost_usd,
       coalesce(round(avg(latency_ms)), 0)::int AS avg_latency_ms,
       coalesce(sum(credits_charged), 0)
         + (SELECT coalesce(sum(j.credits_charged), 0) FROM credits.jobs j WHERE j.job_id = %(job_id)s) AS credits_charged
  FROM credits.llm_calls WHERE job_id = %(job_id)s;

-- name: job_calls
-- A page of a job's calls, oldest first.
SELECT * FROM credits.llm_calls
 WHERE job_id = %(job_id)s
   AND (created_at, call_id) > (coalesce(%(after_time)s::timestamptz, '-infinity'),
                                coalesce(%(after_id)s::uuid, '00000000-0000-0000-0000-000000000000'))
 ORDER BY created_at, call_id LIMIT %(limit)s;

-- name: job_call_summaries
-- A job's first calls, oldest first, without what was asked and answered.
SELECT call_id, purpose, model_alias, model_group_used, prompt_tokens, completion_tokens, total_tokens, cost_usd,
       credits_charged, latency_ms, status, basis, error, created_at
  FROM credits.llm_calls WHERE job_id = %(job_id)s ORDER BY created_at, call_id LIMIT %(limit)s;

-- name: team_calls
-- A page of a team's calls, newest first, without what was asked and answered.
SELECT call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, basis, policy, flags, requested_model,
       model_group_used, model_alias, resolved_model, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
       reasoning_tokens, pricing_input, pricing_output, cost_usd, provider_cost_usd, credits_held, credits_charged,
       credits_uncollected, stream, latency_ms, time_to_first_token_ms, error, created_at, settled_at
  FROM credits.llm_calls
 WHERE team_id = %(team_id)s
   AND (created_at, call_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                                coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
 ORDER BY created_at DESC, call_id DESC LIMIT %(limit)s;

-- name: usage
-- What teams did in a time, by when it began: one team, or all teams of an organization, the most charged first.
WITH members AS (
  SELECT team_id FROM credits.teams WHERE team_id = %(team_id)s OR organization_id = %(organization_id)s
), calls AS (
  SELECT c.team_id, count(*) AS total_calls,
         count(*) FILTER (WHERE c.status = 'settled' AND c.error IS NULL) AS successful_calls,
         count(*) FILTER (WHERE c.status IN ('voided', 'expired') OR c.error IS NOT NULL) AS failed_calls,
         sum(c.total_tokens) AS total_tokens, sum(c.cost_usd) AS total_cost_usd, sum(c.credits_charged) AS credits_charged
    FROM credits.llm_calls c JOIN members USING (team_id)
   WHERE c.created_at >= %(start)s AND c.created_at < %(end)s GROUP BY c.team_id
), jobs AS (
  SELECT j.team_id, count(*) AS total_jobs,
         count(*) FILTER (WHERE j.status = 'completed') AS completed_jobs,
         count(*) FILTER (WHERE j.status = 'failed') AS failed_jobs,
         count(*) FILTER (WHERE j.status = 'cancelled') AS cancelled_jobs
    FROM credits.jobs j JOIN members USING (team_id)
   WHERE j.created_at >= %(start)s AND j.created_at < %(end)s GROUP BY j.team_id
)
SELECT m.team_id,
       coalesce(j.total_jobs, 0) AS total_jobs, coalesce(j.completed_jobs, 0) AS completed_jobs,
       coalesce(j.failed_jobs, 0) AS failed_jobs, coalesce(j.cancelled_jobs, 0) AS cancelled_jobs,
       coalesce(c.total_calls, 0) AS total_calls, coalesce(c.successful_calls, 0) AS successful_calls,
       coalesce(c.failed_calls, 0) AS failed_calls, coalesce(c.total_tokens, 0)::bigint AS total_tokens,
       coalesce(c.total_cost_usd, 0) AS total_cost_usd, coalesce(c.credits_charged, 0) AS credits_charged
  FROM members m LEFT JOIN calls c USING (team_id) LEFT JOIN jobs j USING (team_id)
 ORDER BY credits_charged DESC, m.team_id;

-- name: usage_by_job_type
-- The jobs that a team began in a time, by type, with all that they cost.
SELECT j.job_type, count(DISTINCT j.job_id) AS count, coalesce(sum(c.cost_usd), 0) AS cost_usd,
       coalesce(sum(c.credits_charged), 0) AS credits_charged
  FROM credits.jobs j LEFT JOIN credits.llm_calls c USING (job_id)
 WHERE j.team_id = %(team_id)s AND j.created_at >= %(start)s AND j.created_at < %(end)s
 GROUP BY j.job_type ORDER BY count DESC, j.job_type LIMIT %(limit)s;

-- name: usage_by_model
SELECT model_alias, count(*) AS count, coalesce(sum(total_tokens), 0)::bigint AS total_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, coalesce(sum(credits_charged), 0) AS credits_charged
  FROM credits.llm_calls
 WHERE team_id = %(team_id)s AND created_at >= %(start)s AND created_at < %(end)s
 GROUP BY model_alias ORDER BY credits_charged DESC, model_alias LIMIT %(limit)s;
