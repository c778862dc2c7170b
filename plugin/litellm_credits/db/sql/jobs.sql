-- Jobs, and what their calls and their team's calls cost.

-- name: create_job
-- No row when there is no such team, or no such parent among its jobs.
WITH parent AS (
  SELECT job_id FROM credits.jobs WHERE job_id = %(parent_job_id)s AND team_id = %(team_id)s FOR KEY SHARE
)
INSERT INTO credits.jobs (
  team_id, organization_id, parent_job_id, user_id, external_task_id, job_type, metadata, expires_at, on_expiry)
SELECT team_id, organization_id, %(parent_job_id)s, %(user_id)s, %(external_task_id)s, %(job_type)s, %(metadata)s::jsonb,
       %(expires_at)s, %(on_expiry)s::credits.job_expiry
  FROM credits.teams
 WHERE team_id = %(team_id)s AND (%(parent_job_id)s::uuid IS NULL OR EXISTS (SELECT FROM parent))
   FOR KEY SHARE
RETURNING *;

-- name: plan_of
SELECT plan FROM credits.teams WHERE team_id = %(team_id)s;

-- name: job
SELECT * FROM credits.jobs WHERE job_id = %(job_id)s;

-- name: jobs
-- A page of the jobs of a team, or of all teams of an organization, newest first. What is null filters nothing. Each team's newest
-- are found by its index, and merged.
SELECT page.* FROM credits.teams t CROSS JOIN LATERAL (
  SELECT * FROM credits.jobs j
   WHERE j.team_id = t.team_id
     AND (j.created_at, j.job_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                                     coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
     AND (%(status)s::credits.job_status IS NULL OR j.status = %(status)s::credits.job_status)
     AND (%(job_type)s::text IS NULL OR j.job_type = %(job_type)s)
     AND (%(user_id)s::text IS NULL OR j.user_id = %(user_id)s)
     AND (%(external_task_id)s::text IS NULL OR j.external_task_id = %(external_task_id)s)
     AND (%(parent_job_id)s::uuid IS NULL OR j.parent_job_id = %(parent_job_id)s)
     AND (%(start)s::timestamptz IS NULL OR j.created_at >= %(start)s)
     AND (%(end)s::timestamptz IS NULL OR j.created_at < %(end)s)
   ORDER BY j.created_at DESC, j.job_id DESC LIMIT %(limit)s) page
 WHERE t.team_id = %(team_id)s OR t.organization_id = %(organization_id)s
 ORDER BY page.created_at DESC, page.job_id DESC LIMIT %(limit)s;

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

-- name: job_costs_by
-- The same by model alias or by purpose, the most charged first.
SELECT CASE WHEN %(by_purpose)s THEN purpose ELSE model_alias END AS name, count(*) AS count,
       coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
       coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, coalesce(sum(credits_charged), 0) AS credits_charged
  FROM credits.llm_calls WHERE job_id = %(job_id)s
 GROUP BY 1 ORDER BY credits_charged DESC, name LIMIT %(limit)s;

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
-- A page of the calls of a team, or of all teams of an organization, newest first, without what was asked and answered; as jobs.
SELECT page.* FROM credits.teams t CROSS JOIN LATERAL (
  SELECT call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, basis, policy, flags, requested_model,
         model_group_used, model_alias, resolved_model, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
         cache_write_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, units, pricing_input, pricing_output,
         pricing_rates, cost_usd, provider_cost_usd, credits_held, credits_charged,
         credits_uncollected, stream, latency_ms, time_to_first_token_ms, error, created_at, settled_at
    FROM credits.llm_calls c
   WHERE c.team_id = t.team_id
     AND (c.created_at, c.call_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                                      coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
     AND (%(status)s::credits.call_status IS NULL OR c.status = %(status)s::credits.call_status)
     AND (%(model_alias)s::text IS NULL OR c.model_alias = %(model_alias)s)
     AND (%(purpose)s::text IS NULL OR c.purpose = %(purpose)s)
     AND (%(key_id)s::uuid IS NULL OR c.key_id = %(key_id)s)
     AND (%(flag)s::text IS NULL OR %(flag)s = ANY(c.flags))
     AND (%(start)s::timestamptz IS NULL OR c.created_at >= %(start)s)
     AND (%(end)s::timestamptz IS NULL OR c.created_at < %(end)s)
   ORDER BY c.created_at DESC, c.call_id DESC LIMIT %(limit)s) page
 WHERE t.team_id = %(team_id)s OR t.organization_id = %(organization_id)s
 ORDER BY page.created_at DESC, page.call_id DESC LIMIT %(limit)s;

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
-- The jobs that began in a time, by type, with all that they cost: of a team, or of all teams of an organization.
SELECT j.job_type AS name, count(DISTINCT j.job_id) AS count, coalesce(sum(c.cost_usd), 0) AS cost_usd,
       coalesce(sum(c.credits_charged), 0) AS credits_charged
  FROM credits.teams t JOIN credits.jobs j USING (team_id) LEFT JOIN credits.llm_calls c USING (job_id)
 WHERE (t.team_id = %(team_id)s OR t.organization_id = %(organization_id)s)
   AND j.created_at >= %(start)s AND j.created_at < %(end)s
 GROUP BY j.job_type ORDER BY count DESC, j.job_type LIMIT %(limit)s;

-- name: usage_by
-- The calls that began in a time, by model alias, purpose or day (UTC): days as they come, the others the most charged first.
SELECT CASE %(by)s WHEN 'model_alias' THEN c.model_alias WHEN 'purpose' THEN c.purpose
                   ELSE to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS name,
       count(*) AS count, coalesce(sum(c.total_tokens), 0)::bigint AS total_tokens,
       coalesce(sum(c.cost_usd), 0) AS cost_usd, coalesce(sum(c.credits_charged), 0) AS credits_charged
  FROM credits.teams t JOIN credits.llm_calls c USING (team_id)
 WHERE (t.team_id = %(team_id)s OR t.organization_id = %(organization_id)s)
   AND c.created_at >= %(start)s AND c.created_at < %(end)s
 GROUP BY 1
 ORDER BY CASE WHEN %(by)s = 'day' THEN min(c.created_at) END, credits_charged DESC, name LIMIT %(limit)s;
