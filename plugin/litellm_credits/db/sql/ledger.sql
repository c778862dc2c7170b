-- The money. What comes together is one transaction and one round trip: lock_accounts, a statement for all calls of the short way,
-- one for each other call. What is rarer is a statement by itself, or a transaction of several.
-- Lock order everywhere: team_credits first, then jobs, virtual_keys, credit_grants, grant_draws, llm_calls. Every change of a
-- balance starts with the lock on its team_credits row, so the statements of one team run one after the other and cannot deadlock.
--   available = credits_allocated - credits_used - credits_held + overdraft_limit, never negative (P1);
--   plain     = available - credits_earmarked: what any call may be held from, never negative either.
-- A statement that waited for its lock has an older snapshot than the row it locked. So every row that counts is locked after the
-- balance, which reads it anew, and amounts are written as computed from the locked rows, all of them: PostgreSQL checks
-- constraints against the snapshot's version first, and would refuse a change that only fits the newest one.
-- `status::text = 'held'` where a call is looked up by its id or job: with the enum, the planner takes the index of the held calls,
-- which always looks tiny to it, and walks all that were held since the oldest snapshot (a backup's, say). So too with open jobs.

-- name: lock_accounts
-- The first step of what is done together: after it, every statement of the transaction sees what the locked rows are.
SELECT FROM credits.team_credits WHERE team_id = ANY (%(team_ids)s::varchar[]) ORDER BY team_id FOR UPDATE;

-- name: hold_plain
-- Reserve credits of the plain balance for calls and open their rows (P1, P2): the short way, after lock_accounts, for teams without
-- earmarked grants, keys without a limit, jobs without money. A row for each call that was held for. Those of one team are held for
-- all or none: where they do not all fit, and for any other reason, nothing was reserved, and `hold` must decide of each.
WITH given (call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, requested_model, model_group_used, model_alias,
            pricing_input, pricing_output, credits, stream, worker_id, lease_seconds) AS (
  VALUES [[(%(call_id)s::uuid, %(job_id)s::uuid, %(team_id)s::varchar, %(key_id)s::uuid, %(litellm_call_id)s::varchar,
            %(endpoint)s::varchar, %(purpose)s::varchar, %(requested_model)s::varchar, %(model_group_used)s::varchar,
            %(model_alias)s::varchar, %(pricing_input)s::numeric, %(pricing_output)s::numeric, %(credits)s::numeric(24,10),
            %(stream)s::boolean, %(worker_id)s::uuid, %(lease_seconds)s::float8)]]
), plain AS (
  SELECT given.* FROM given LEFT JOIN credits.virtual_keys k USING (key_id) LEFT JOIN credits.jobs j USING (job_id)
   WHERE k.credit_limit IS NULL
     AND (given.job_id IS NULL OR (j.team_id = given.team_id AND j.status IN ('pending', 'in_progress')
            AND coalesce(j.expires_at > now(), true) AND j.credit_cap IS NULL AND NOT j.calls_included))
), balance AS (
  UPDATE credits.team_credits a
     SET credits_held = a.credits_held + wanted.credits, calls_held = a.calls_held + wanted.calls
    FROM (SELECT team_id, sum(credits) AS credits, count(*)::int AS calls FROM plain GROUP BY team_id) wanted
    JOIN credits.teams t USING (team_id) JOIN credits.organizations o USING (organization_id)
   WHERE a.team_id = wanted.team_id AND t.status = 'active' AND o.status = 'active'
     AND a.credits_earmarked = 0
     AND a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit >= wanted.credits
     AND coalesce(a.calls_held + wanted.calls <= (t.plan ->> 'max_calls_in_flight')::int, true)
     AND coalesce(a.credits_held + wanted.credits <= (t.plan ->> 'max_held_share')::numeric * a.credits_remaining, true)
  RETURNING a.team_id, a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit AS available
), call AS (
  INSERT INTO credits.llm_calls (
    call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, requested_model, model_group_used,
    model_alias, pricing_input, pricing_output, credits_held, stream, worker_id, lease_until)
  SELECT call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, 'held', requested_model, model_group_used,
         model_alias, pricing_input, pricing_output, credits, stream, worker_id, now() + make_interval(secs => lease_seconds)
    FROM plain JOIN balance USING (team_id)
), started AS (
  UPDATE credits.jobs SET status = 'in_progress', started_at = now()
   WHERE job_id = ANY (ARRAY(SELECT job_id FROM plain JOIN balance USING (team_id))) AND status::text = 'pending'
)
SELECT call_id, available FROM plain JOIN balance USING (team_id);

-- name: hold
-- Reserve credits for a call, all or nothing, and open its row (P1, P2). They come from what its job holds, where that has a cap;
-- else from the grants that may pay for this call, in the order in which grants burn, the plain balance among them.
-- Always one row: held is true when they were reserved; otherwise refusal and the other columns say why not.
WITH account AS (
  SELECT a.*, t.plan, a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit - a.credits_earmarked AS plain
    FROM credits.team_credits a JOIN credits.teams t USING (team_id)
    JOIN credits.organizations o ON o.organization_id = t.organization_id
   WHERE a.team_id = %(team_id)s AND t.status = 'active' AND o.status = 'active'
     FOR UPDATE OF a
), job AS (
  SELECT team_id, status, job_type, calls_included, credit_cap IS NOT NULL AS capped, coalesce(expires_at <= now(), false) AS expired
    FROM credits.jobs WHERE job_id = %(job_id)s
), purse AS (
  SELECT j.job_id, j.credits_held, j.credits_held - j.credits_price AS free
    FROM credits.jobs j JOIN account USING (team_id)
   WHERE j.job_id = %(job_id)s AND j.credit_cap IS NOT NULL AND j.status IN ('pending', 'in_progress')
     FOR NO KEY UPDATE OF j
), key AS (
  SELECT k.key_id, k.credit_limit - k.credits_used - k.credits_held AS free, k.credits_held AS held
    FROM credits.virtual_keys k JOIN account USING (team_id)
   WHERE k.key_id = %(key_id)s AND k.credit_limit IS NOT NULL
     FOR NO KEY UPDATE OF k
), usable AS (
  SELECT g.* FROM credits.credit_grants g JOIN account USING (team_id)
   WHERE account.credits_earmarked > 0 AND NOT EXISTS (SELECT FROM job WHERE capped)
     AND g.earmarked AND g.ended_at IS NULL AND g.effective_at <= now() AND (g.expires_at IS NULL OR g.expires_at > now())
     AND g.model_aliases @> CASE WHEN g.model_aliases = '{}' THEN '{}' ELSE %(aliases)s::varchar[] END
     AND (g.job_types = '{}' OR EXISTS (SELECT FROM job WHERE job.job_type = ANY (g.job_types)))
     FOR NO KEY UPDATE OF g
), drawn AS (
  SELECT d.grant_id, d.credits_held, g.priority, g.expires_at, g.created_at
    FROM purse JOIN credits.grant_draws d ON d.holder_id = purse.job_id JOIN credits.credit_grants g USING (grant_id)
     FOR NO KEY UPDATE OF d
), source AS (
  SELECT grant_id, priority, expires_at, created_at, credits_granted - credits_taken - credits_used - credits_held AS free FROM usable
   UNION ALL
  SELECT grant_id, priority, expires_at, created_at, credits_held FROM drawn
   UNION ALL
  SELECT NULL, 100, 'infinity', 'infinity',
         CASE WHEN purse.job_id IS NULL THEN plain ELSE purse.credits_held - (SELECT coalesce(sum(credits_held), 0) FROM drawn) END
    FROM account LEFT JOIN purse ON true
), wanted AS (
  SELECT CASE WHEN EXISTS (SELECT FROM job WHERE calls_included) THEN 0 ELSE %(credits)s::numeric(24,10) END AS credits
), portion AS (
  SELECT grant_id, free, least(free, greatest(0, wanted.credits - earlier)) AS credits
    FROM (SELECT grant_id, free, coalesce(sum(free) OVER (ORDER BY priority, coalesce(expires_at, 'infinity'), created_at, grant_id
                                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier FROM source) s, wanted
), decision AS (
  SELECT account.*, wanted.credits, purse.job_id IS NOT NULL AS on_job, key.key_id IS NOT NULL AS on_key,
         sums.earmarked, coalesce(purse.free, sums.free) AS available, key.free AS key_available, key.held AS key_held,
         CASE WHEN %(job_id)s::uuid IS NOT NULL AND (job.team_id IS DISTINCT FROM account.team_id
                OR job.status NOT IN ('pending', 'in_progress') OR job.expired OR (job.capped AND purse.job_id IS NULL)) THEN 'job'
              WHEN account.calls_held >= (account.plan ->> 'max_calls_in_flight')::int THEN 'calls_in_flight'
              WHEN wanted.credits > key.free THEN 'key_limit'
              WHEN wanted.credits > coalesce(purse.free, sums.free) THEN 'short'
              WHEN purse.job_id IS NULL AND wanted.credits > 0 AND account.credits_held + wanted.credits
                   > (account.plan ->> 'max_held_share')::numeric * account.credits_remaining THEN 'held_share'
         END AS refusal
    FROM account CROSS JOIN wanted
   CROSS JOIN (SELECT sum(free) AS free, coalesce(sum(credits) FILTER (WHERE grant_id IS NOT NULL), 0) AS earmarked FROM portion) sums
    LEFT JOIN job ON true LEFT JOIN purse ON true LEFT JOIN key ON true
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = d.credits_allocated, credits_used = d.credits_used, credits_remaining = d.credits_remaining,
         credits_held = d.credits_held + CASE WHEN d.on_job THEN 0 ELSE d.credits END,
         overdraft_limit = d.overdraft_limit,
         credits_earmarked = d.credits_earmarked - CASE WHEN d.on_job THEN 0 ELSE d.earmarked END,
         calls_held = d.calls_held + 1
    FROM decision d WHERE a.team_id = d.team_id AND d.refusal IS NULL
  RETURNING a.team_id
), call AS (
  INSERT INTO credits.llm_calls (
    call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, requested_model, model_group_used,
    model_alias, pricing_input, pricing_output, credits_held, stream, worker_id, lease_until,
    earmarked, drawn_on_job, counted_on_key)
  SELECT %(call_id)s::uuid, %(job_id)s, team_id, %(key_id)s, %(litellm_call_id)s, %(endpoint)s, %(purpose)s, 'held',
    %(requested_model)s, %(model_group_used)s, %(model_alias)s, %(pricing_input)s::numeric, %(pricing_output)s::numeric, d.credits,
    %(stream)s::boolean, %(worker_id)s::uuid, now() + make_interval(secs => %(lease_seconds)s), d.earmarked > 0, d.on_job, d.on_key
    FROM balance JOIN decision d USING (team_id)
), draw AS (
  INSERT INTO credits.grant_draws (holder_id, grant_id, credits_held)
  SELECT %(call_id)s, grant_id, credits FROM portion, balance WHERE grant_id IS NOT NULL AND credits > 0
), reserved AS (
  UPDATE credits.credit_grants g
     SET credits_taken = usable.credits_taken, credits_used = usable.credits_used,
         credits_held = usable.credits_held + portion.credits
    FROM balance, usable JOIN portion USING (grant_id) WHERE g.grant_id = usable.grant_id AND portion.credits > 0
), drawn_on AS (
  UPDATE credits.grant_draws w SET credits_held = drawn.credits_held - portion.credits
    FROM balance, drawn JOIN portion USING (grant_id)
   WHERE w.holder_id = %(job_id)s AND w.grant_id = drawn.grant_id AND portion.credits > 0
), started AS (
  UPDATE credits.jobs j
     SET status = 'in_progress', started_at = coalesce(j.started_at, now()),
         credits_held = CASE WHEN d.on_job THEN purse.credits_held - d.credits ELSE j.credits_held END
    FROM balance JOIN decision d USING (team_id) LEFT JOIN purse ON true
   WHERE j.job_id = %(job_id)s AND (j.status = 'pending' OR (j.status = 'in_progress' AND d.on_job AND d.credits > 0))
), counted AS (
  UPDATE credits.virtual_keys k SET credits_held = k.credits_held + d.credits
    FROM balance JOIN decision d USING (team_id) WHERE d.on_key AND k.key_id = %(key_id)s
)
SELECT %(call_id)s::uuid AS call_id, balance.team_id IS NOT NULL AS held, d.team_id IS NOT NULL AS team_active, d.refusal, d.credits, d.available,
       d.key_available, d.key_held, d.calls_held, d.credits_earmarked > 0 OR d.on_job OR d.on_key OR job.calls_included AS on_terms, job.team_id AS job_team, job.status AS job_status,
       CASE WHEN d.on_job THEN (SELECT coalesce(sum(c.credits_held), 0) FROM credits.llm_calls c
                                 WHERE d.refusal = 'short' AND c.job_id = %(job_id)s AND c.status::text = 'held')
            ELSE d.credits_held END AS held_by_others
  FROM (SELECT) AS always LEFT JOIN decision d ON true LEFT JOIN balance ON true LEFT JOIN job ON true;

-- name: forestall
-- Take the call id of a hold whose outcome is unknown: one that is still under way somewhere fails on it, and one that is
-- committing is waited for. No effect on a hold that was committed: void it after this.
INSERT INTO credits.llm_calls (
  call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, flags, requested_model, model_group_used,
  model_alias, pricing_input, pricing_output, credits_held, stream, worker_id, lease_until, settled_at)
SELECT %(call_id)s, (SELECT job_id FROM credits.jobs WHERE job_id = %(job_id)s FOR KEY SHARE), team_id, %(key_id)s,
       %(litellm_call_id)s, %(endpoint)s, %(purpose)s, 'voided', '{hold_outcome_unknown}', %(requested_model)s,
       %(model_group_used)s, %(model_alias)s, %(pricing_input)s, %(pricing_output)s, %(credits)s, %(stream)s, %(worker_id)s,
       now(), now()
  FROM credits.teams WHERE team_id = %(team_id)s
ON CONFLICT (call_id) DO NOTHING;

-- name: settle_plain
-- End the holds of calls once, the short way, after lock_accounts: charge no more than was held of the plain balance, release the
-- rest, write the ledger entries (P3, P4). A row for each call that was ended; for the others nothing was changed, and `settle`
-- must decide.
WITH given (call_id, team_id, credits, reason, status, basis, policy, flags, model_alias, resolved_model,
            prompt_tokens, completion_tokens, total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
            audio_input_tokens, audio_output_tokens, units, pricing_input, pricing_output, pricing_rates, cost_usd,
            provider_cost_usd, latency_ms, time_to_first_token_ms, request_data, response_data, error) AS (
  VALUES [[(%(call_id)s::uuid, %(team_id)s::varchar, %(credits)s::numeric(24,10), %(reason)s::varchar,
            %(status)s::credits.call_status, %(basis)s::credits.call_basis, %(policy)s::varchar, %(flags)s::text[],
            %(model_alias)s::varchar, %(resolved_model)s::varchar, %(prompt_tokens)s::int, %(completion_tokens)s::int,
            %(total_tokens)s::int, %(cached_tokens)s::int, %(cache_write_tokens)s::int, %(reasoning_tokens)s::int,
            %(audio_input_tokens)s::int, %(audio_output_tokens)s::int, %(units)s::jsonb, %(pricing_input)s::numeric,
            %(pricing_output)s::numeric, %(pricing_rates)s::jsonb, %(cost_usd)s::numeric, %(provider_cost_usd)s::numeric,
            %(latency_ms)s::int, %(time_to_first_token_ms)s::int, %(request_data)s::jsonb, %(response_data)s::jsonb,
            %(error)s::jsonb)]]
), call AS (
  UPDATE credits.llm_calls c
     SET status = given.status, basis = given.basis, policy = given.policy, flags = c.flags || given.flags,
         model_alias = given.model_alias, resolved_model = given.resolved_model, prompt_tokens = given.prompt_tokens,
         completion_tokens = given.completion_tokens, total_tokens = given.total_tokens, cached_tokens = given.cached_tokens,
         cache_write_tokens = given.cache_write_tokens, reasoning_tokens = given.reasoning_tokens,
         audio_input_tokens = given.audio_input_tokens, audio_output_tokens = given.audio_output_tokens, units = given.units,
         pricing_input = given.pricing_input, pricing_output = given.pricing_output, pricing_rates = given.pricing_rates,
         cost_usd = given.cost_usd, provider_cost_usd = given.provider_cost_usd, credits_charged = given.credits,
         latency_ms = given.latency_ms, time_to_first_token_ms = given.time_to_first_token_ms,
         request_data = given.request_data, response_data = given.response_data, error = given.error, settled_at = now()
    FROM given
   WHERE c.call_id = given.call_id AND c.team_id = given.team_id AND c.status::text = 'held' AND c.credits_held >= given.credits
     AND NOT c.earmarked AND NOT c.drawn_on_job AND NOT c.counted_on_key
  RETURNING c.call_id, c.team_id, c.job_id, c.credits_held, c.credits_charged, c.credits_uncollected, c.flags, given.reason
), balance AS (
  UPDATE credits.team_credits a
     SET credits_used = a.credits_used + ended.charged, credits_remaining = a.credits_remaining - ended.charged,
         credits_held = a.credits_held - ended.held, calls_held = a.calls_held - ended.calls, updated_at = now()
    FROM (SELECT team_id, sum(credits_charged) AS charged, sum(credits_held) AS held, count(*)::int AS calls
            FROM call GROUP BY team_id) ended
   WHERE a.team_id = ended.team_id
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining,
            a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit AS available
), charged AS (
  SELECT call.*, balance.account_id, balance.organization_id, balance.available, balance.credits_remaining - call.credits_charged
           + sum(call.credits_charged) OVER (PARTITION BY team_id ORDER BY call_id
                                             ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS credits_remaining
    FROM call JOIN balance USING (team_id)
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, job_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
  SELECT account_id, team_id, organization_id, job_id, call_id, 'charge', -credits_charged,
         credits_remaining + credits_charged, credits_remaining, reason
    FROM charged WHERE credits_charged <> 0 ORDER BY team_id, call_id
)
SELECT call_id, credits_charged, credits_uncollected, flags, credits_remaining, available FROM charged;

-- name: settle
-- End a hold once: charge, release the rest, write the ledger entry (P3, P4). Status settled or voided; or expired, for a hold that
-- nobody vouches for any more. No row: somebody else ended it before, and nothing was changed. An ending that comes after the hold
-- expired is accounted too, once, as far as the balance goes, unless it was refunded: a settle always, a void where expiry had
-- charged. What is charged goes to the grants that were held, in their order, and beyond the hold to what is free of these
-- grants and of the plain balance; for a call that drew on its job's cap, to what the job still holds for its calls.
WITH account AS (
  SELECT *, credits_allocated - credits_used - credits_held + overdraft_limit - credits_earmarked AS plain
    FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE
), before AS (
  SELECT c.call_id, c.job_id, c.key_id, c.status, c.credits_charged, c.credits_held AS credits_bound,
         c.earmarked, c.drawn_on_job, c.counted_on_key,
         CASE WHEN c.status = 'held' THEN c.credits_held ELSE 0 END AS held,
         CASE WHEN c.job_id IS NOT NULL AND EXISTS (SELECT FROM credits.jobs j WHERE j.job_id = c.job_id AND j.calls_included)
              THEN 0 ELSE %(credits)s::numeric(24,10) END AS cost
    FROM credits.llm_calls c JOIN account USING (team_id)
   WHERE c.call_id = %(call_id)s
     AND CASE WHEN %(status)s::credits.call_status = 'expired' THEN c.status = 'held' AND c.lease_until < now()
              ELSE c.status = 'held' OR (c.status = 'expired' AND c.credits_refunded = 0
                AND (%(status)s::credits.call_status = 'settled' OR c.credits_charged > 0)) END
     FOR UPDATE OF c
), purse AS (
  SELECT j.job_id, j.credits_held, j.credits_held - j.credits_price AS free
    FROM credits.jobs j JOIN before USING (job_id)
   WHERE before.drawn_on_job AND j.status IN ('pending', 'in_progress')
     FOR NO KEY UPDATE OF j
), drawn AS (
  SELECT d.grant_id, d.credits_held FROM credits.grant_draws d JOIN purse ON d.holder_id = purse.job_id FOR NO KEY UPDATE OF d
), draw AS (
  SELECT d.grant_id, d.credits_held AS held, d.credits_charged AS charged, g.priority, g.expires_at, g.created_at,
         g.credits_taken, g.credits_used, g.credits_held,
         CASE WHEN g.expires_at <= now() THEN 0 ELSE g.credits_granted - g.credits_taken - g.credits_used - g.credits_held END AS free
    FROM before JOIN credits.grant_draws d ON before.earmarked AND d.holder_id = before.call_id
    JOIN credits.credit_grants g USING (grant_id)
     FOR NO KEY UPDATE OF d, g
), source AS (
  SELECT draw.grant_id, priority, expires_at, created_at, held, charged,
         CASE WHEN purse.job_id IS NULL THEN draw.free ELSE drawn.credits_held END AS free
    FROM draw LEFT JOIN purse ON true LEFT JOIN drawn USING (grant_id)
   UNION ALL
  SELECT NULL, 100, 'infinity', 'infinity', before.held - coalesce(sums.held, 0), before.credits_charged - coalesce(sums.charged, 0),
         CASE WHEN purse.job_id IS NULL THEN account.plain
              ELSE purse.credits_held - (SELECT coalesce(sum(credits_held), 0) FROM drawn) END
    FROM account, before, (SELECT sum(held) AS held, sum(charged) AS charged FROM draw) sums LEFT JOIN purse ON true
), portion AS (
  SELECT s.grant_id, s.held, s.charged, least(s.most, greatest(0, s.cost - s.earlier)) - s.charged AS charge, s.on_job
    FROM (SELECT source.*, source.held + source.charged + source.free AS most, purse.job_id IS NOT NULL AS on_job,
                 CASE WHEN before.drawn_on_job THEN least(cost, before.credits_charged + before.held + coalesce(purse.free, 0))
                      ELSE cost END AS cost,
                 coalesce(sum(source.held + source.charged + source.free) OVER (ORDER BY priority, coalesce(expires_at, 'infinity'), created_at, grant_id
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier
            FROM source CROSS JOIN before LEFT JOIN purse ON true) s
), change AS (
  SELECT before.*, sums.* FROM before,
         (SELECT sum(charge) AS charge,
                 coalesce(sum(CASE WHEN on_job THEN charge ELSE held END), 0) AS released,
                 coalesce(sum(CASE WHEN on_job THEN 0 ELSE held - charge END) FILTER (WHERE grant_id IS NOT NULL), 0) AS earmarked_again
            FROM portion) sums
), call AS (
  UPDATE credits.llm_calls c
     SET status = %(status)s, basis = %(basis)s, policy = %(policy)s,
         flags = c.flags || %(flags)s::text[]
           || CASE WHEN change.cost > change.credits_bound THEN ARRAY['bound_exceeded'] ELSE '{}' END
           || CASE WHEN change.status = 'expired' THEN ARRAY['late_settle'] ELSE '{}' END,
         model_alias = %(model_alias)s, resolved_model = %(resolved_model)s,
         prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s, total_tokens = %(total_tokens)s,
         cached_tokens = %(cached_tokens)s, cache_write_tokens = %(cache_write_tokens)s, reasoning_tokens = %(reasoning_tokens)s,
         audio_input_tokens = %(audio_input_tokens)s, audio_output_tokens = %(audio_output_tokens)s, units = %(units)s,
         pricing_input = %(pricing_input)s, pricing_output = %(pricing_output)s, pricing_rates = %(pricing_rates)s,
         cost_usd = %(cost_usd)s, provider_cost_usd = %(provider_cost_usd)s,
         credits_charged = change.credits_charged + change.charge,
         credits_uncollected = change.cost - change.credits_charged - change.charge,
         latency_ms = %(latency_ms)s, time_to_first_token_ms = %(time_to_first_token_ms)s,
         request_data = %(request_data)s, response_data = %(response_data)s, error = %(error)s,
         settled_at = now()
    FROM change
   WHERE c.call_id = change.call_id
  RETURNING c.call_id, c.job_id, c.credits_charged, c.credits_uncollected, c.flags
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated,
         credits_used = account.credits_used + change.charge,
         credits_remaining = account.credits_remaining - change.charge,
         credits_held = account.credits_held - change.released,
         overdraft_limit = account.overdraft_limit,
         credits_earmarked = account.credits_earmarked + change.earmarked_again,
         calls_held = account.calls_held - CASE WHEN change.status = 'held' THEN 1 ELSE 0 END,
         updated_at = now()
    FROM account, change
   WHERE a.team_id = account.team_id
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining,
            a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit AS available
), paid AS (
  UPDATE credits.credit_grants g
     SET credits_taken = draw.credits_taken, credits_used = draw.credits_used + portion.charge,
         credits_held = draw.credits_held - CASE WHEN on_job THEN portion.charge ELSE portion.held END,
         ended_at = CASE WHEN portion.charge < 0 THEN NULL ELSE g.ended_at END  -- a correction gives back: the sweep must look again
    FROM draw JOIN portion USING (grant_id) WHERE g.grant_id = draw.grant_id
), ended_draw AS (
  UPDATE credits.grant_draws d SET credits_held = 0, credits_charged = portion.charged + portion.charge
    FROM portion WHERE d.holder_id = %(call_id)s AND d.grant_id = portion.grant_id
), given_back AS (
  UPDATE credits.grant_draws d SET credits_held = drawn.credits_held + portion.held - portion.charge
    FROM drawn JOIN portion USING (grant_id), purse WHERE d.holder_id = purse.job_id AND d.grant_id = drawn.grant_id
), refilled AS (
  UPDATE credits.jobs j SET credits_held = purse.credits_held + change.held - change.charge
    FROM purse, change WHERE j.job_id = purse.job_id
), counted AS (
  UPDATE credits.virtual_keys k SET credits_held = k.credits_held - change.held, credits_used = k.credits_used + change.charge
    FROM change WHERE change.counted_on_key AND k.key_id = change.key_id
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, job_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
  SELECT balance.account_id, balance.team_id, balance.organization_id, call.job_id, %(call_id)s,
         CASE WHEN change.credits_charged = 0 THEN 'charge' ELSE 'adjustment' END::credits.transaction_type,
         -change.charge, balance.credits_remaining + change.charge, balance.credits_remaining, %(reason)s
    FROM change, call, balance WHERE change.charge <> 0
)
SELECT call.call_id, call.credits_charged, call.credits_uncollected, call.flags, balance.credits_remaining, balance.available
  FROM call, balance;

-- name: renew
-- Vouch again for holds of calls that are still in flight in this worker. Waits for nobody: a call that is locked is ending.
UPDATE credits.llm_calls SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
 WHERE call_id IN (SELECT call_id FROM credits.llm_calls
                    WHERE call_id = ANY(%(call_ids)s) AND status::text = 'held' FOR UPDATE SKIP LOCKED);

-- name: overdue_calls
-- Calls whose lease has run out, the oldest first: the process died (DESIGN 2). The team's plan decides whether what was held is
-- charged. One that is locked is being renewed, or is ending.
SELECT c.call_id, c.team_id, c.model_alias, c.pricing_input, c.pricing_output, c.credits_held,
       coalesce(t.plan ->> 'on_process_death', 'release') AS policy
  FROM credits.llm_calls c JOIN credits.teams t USING (team_id)
 WHERE c.status = 'held' AND c.lease_until < now() AND NOT c.call_id = ANY (%(seen)s)
 ORDER BY c.lease_until LIMIT %(limit)s FOR UPDATE OF c SKIP LOCKED;

-- name: lock_account
-- From here to the end of the transaction nothing else moves this team's credits, and each statement sees all that did before.
SELECT * FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE;

-- name: grant
-- Give credits, once per idempotency key. Always one row while the team exists: applied is false when the key was seen before,
-- and then same says whether it was for the same grant.
WITH account AS (
  SELECT * FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE
), earlier AS (
  SELECT e.transaction_id, e.grant_id,
         coalesce((g.credits_granted, g.kind, g.priority, g.model_aliases, g.job_types, g.rollover_credits)
           = (%(credits)s, %(kind)s::credits.grant_kind, %(priority)s, %(model_aliases)s::varchar[], %(job_types)s::varchar[],
              %(rollover_credits)s)
           AND (g.voided_at IS NOT NULL OR g.expires_at IS NOT DISTINCT FROM %(expires_at)s::timestamptz)
           AND (g.effective_at = %(effective_at)s::timestamptz OR %(effective_at)s::timestamptz IS NULL)
           AND g.rollover_days IS NOT DISTINCT FROM %(rollover_days)s::int
           AND e.transaction_type = %(transaction_type)s, false) AS same
    FROM credits.credit_transactions e JOIN account USING (account_id) LEFT JOIN credits.credit_grants g USING (grant_id)
   WHERE e.idempotency_key = %(idempotency_key)s
), granted AS (
  INSERT INTO credits.credit_grants (
    team_id, kind, priority, credits_granted, earmarked, effective_at, expires_at, model_aliases, job_types, rollover_credits,
    rollover_days, reason, created_at)
  SELECT team_id, %(kind)s, %(priority)s, %(credits)s,
         %(priority)s <> 100 OR %(model_aliases)s::varchar[] <> '{}' OR %(job_types)s::varchar[] <> '{}'
           OR %(expires_at)s::timestamptz IS NOT NULL OR coalesce(%(effective_at)s::timestamptz > now(), false),
         coalesce(%(effective_at)s::timestamptz, now()), %(expires_at)s, %(model_aliases)s, %(job_types)s, %(rollover_credits)s,
         %(rollover_days)s, %(reason)s, clock_timestamp()
    FROM account WHERE NOT EXISTS (SELECT FROM earlier)
  RETURNING grant_id, earmarked
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated + %(credits)s,
         credits_used = account.credits_used,
         credits_remaining = account.credits_remaining + %(credits)s,
         credits_held = account.credits_held,
         overdraft_limit = account.overdraft_limit,
         credits_earmarked = account.credits_earmarked + CASE WHEN granted.earmarked THEN %(credits)s ELSE 0 END,
         updated_at = now()
    FROM account, granted
   WHERE a.team_id = account.team_id
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining
), entry AS (
  INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, grant_id, transaction_type, credits_amount,
    credits_before, credits_after, reason, idempotency_key)
  SELECT account_id, team_id, organization_id, grant_id, %(transaction_type)s, %(credits)s,
         credits_remaining - %(credits)s, credits_remaining, %(reason)s, %(idempotency_key)s
    FROM balance, granted
  RETURNING transaction_id, grant_id
)
SELECT coalesce(entry.transaction_id, earlier.transaction_id) AS transaction_id,
       coalesce(entry.grant_id, earlier.grant_id) AS grant_id, earlier.same
  FROM account LEFT JOIN entry ON true LEFT JOIN earlier ON true;

-- name: grants
-- A team's grants, newest first, with what is used and held of each. The plain balance is spent in the order of its grants.
WITH plain AS (
  SELECT a.credits_used - coalesce(sum(g.credits_used), 0) AS used, a.credits_held - coalesce(sum(g.credits_held), 0) AS held
    FROM credits.team_credits a LEFT JOIN credits.credit_grants g USING (team_id)
   WHERE a.team_id = %(team_id)s GROUP BY a.team_id
), queue AS (
  SELECT g.*, credits_granted - credits_taken AS net,
         coalesce(sum(credits_granted - credits_taken) FILTER (WHERE NOT earmarked) OVER (ORDER BY created_at, grant_id
                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier
    FROM credits.credit_grants g WHERE g.team_id = %(team_id)s
), told AS (
  SELECT q.*, CASE WHEN earmarked THEN q.credits_used ELSE least(net, greatest(0, plain.used - earlier)) END AS spent,
         CASE WHEN earmarked THEN q.credits_used + q.credits_held
              ELSE least(net, greatest(0, plain.used + plain.held - earlier)) END AS spent_or_held
    FROM queue q, plain
)
SELECT grant_id, team_id, kind, priority, credits_granted, credits_taken, spent AS credits_used,
       spent_or_held - spent AS credits_held, net - spent_or_held AS credits_left,
       CASE WHEN effective_at > now() OR expires_at <= now() THEN 0 ELSE net - spent_or_held END AS credits_available,
       CASE WHEN voided_at IS NOT NULL THEN 'voided' WHEN expires_at <= now() THEN 'expired'
            WHEN effective_at > now() THEN 'pending' WHEN spent = net THEN 'spent' ELSE 'active' END AS status,
       earmarked, effective_at, expires_at, model_aliases, job_types, rollover_credits, rollover_days, reason, voided_at, created_at
  FROM told
 WHERE (%(grant_id)s::uuid IS NULL OR grant_id = %(grant_id)s)
   AND (created_at, grant_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                                 coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
   AND (NOT %(open)s OR (net > spent AND (expires_at IS NULL OR expires_at > now())))
 ORDER BY created_at DESC, grant_id DESC LIMIT %(limit)s;

-- name: take_back
-- Take credits back from grants, which the transaction has locked the balance for, as one ledger entry. No row where the
-- amounts are not there any more.
WITH taken AS (
  UPDATE credits.credit_grants g SET credits_taken = g.credits_taken + t.credits
    FROM unnest(%(grant_ids)s::uuid[], %(amounts)s::numeric[]) AS t(grant_id, credits)
   WHERE g.grant_id = t.grant_id AND g.team_id = %(team_id)s
  RETURNING t.credits, g.earmarked
), total AS (
  SELECT sum(credits) AS credits, coalesce(sum(credits) FILTER (WHERE earmarked), 0) AS earmarked FROM taken
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = a.credits_allocated - total.credits,
         credits_remaining = a.credits_remaining - total.credits,
         credits_earmarked = a.credits_earmarked - total.earmarked,
         updated_at = now()
    FROM total WHERE a.team_id = %(team_id)s AND total.credits > 0
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining, total.credits
)
INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, grant_id, transaction_type, credits_amount,
  credits_before, credits_after, reason, idempotency_key)
SELECT account_id, team_id, organization_id, %(grant_id)s, %(transaction_type)s, -credits, credits_remaining + credits,
       credits_remaining, %(reason)s, %(idempotency_key)s
  FROM balance
RETURNING *;

-- name: earlier_entry
SELECT e.* FROM credits.credit_transactions e JOIN credits.team_credits a USING (account_id)
 WHERE a.team_id = %(team_id)s AND e.idempotency_key = %(idempotency_key)s;

-- name: end_now
-- A void is an expiry at once.
UPDATE credits.credit_grants SET voided_at = now(), expires_at = least(expires_at, now())
 WHERE grant_id = %(grant_id)s AND voided_at IS NULL RETURNING grant_id;

-- name: expired_grants
-- Earmarked grants past their time that are not done with: something is left to take, or nothing is held any more.
SELECT grant_id, team_id FROM credits.credit_grants
 WHERE earmarked AND ended_at IS NULL AND expires_at <= now()
   AND (credits_held = 0 OR credits_granted - credits_taken - credits_used - credits_held > 0)
 ORDER BY expires_at LIMIT %(limit)s;

-- name: lock_expired_grant
-- A grant past its time, what is left to take of it, and its rollover. No row when another sweeper was first.
SELECT *, credits_granted - credits_taken - credits_used - credits_held AS credits_left
  FROM credits.credit_grants
 WHERE grant_id = %(grant_id)s AND earmarked AND ended_at IS NULL AND expires_at <= now()
   FOR NO KEY UPDATE;

-- name: end_grant
-- Nothing of it is left or held: no sweep looks at it again.
UPDATE credits.credit_grants SET ended_at = now()
 WHERE grant_id = %(grant_id)s AND credits_held = 0 AND credits_granted - credits_taken - credits_used = 0;

-- name: fund_job
-- Hold for a job that was just made in this transaction, which has locked the balance: its price and its cap, all or nothing. They
-- come from the grants that may pay for its type and for any alias, in the order in which grants burn.
-- Always one row: refusal says why not.
WITH account AS (
  SELECT a.*, t.plan, a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit - a.credits_earmarked AS plain
    FROM credits.team_credits a JOIN credits.teams t USING (team_id) WHERE a.team_id = %(team_id)s
), source AS (
  SELECT g.grant_id, g.priority, g.expires_at, g.created_at,
         g.credits_granted - g.credits_taken - g.credits_used - g.credits_held AS free
    FROM credits.credit_grants g
   WHERE g.team_id = %(team_id)s AND g.earmarked AND g.ended_at IS NULL
     AND g.effective_at <= now() AND (g.expires_at IS NULL OR g.expires_at > now())
     AND g.model_aliases = '{}' AND (g.job_types = '{}' OR %(job_type)s = ANY (g.job_types))
   UNION ALL
  SELECT NULL, 100, 'infinity', 'infinity', plain FROM account
), portion AS (
  SELECT grant_id, free, least(free, greatest(0, %(credits)s - earlier)) AS credits
    FROM (SELECT *, coalesce(sum(free) OVER (ORDER BY priority, coalesce(expires_at, 'infinity'), created_at, grant_id
                             ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier FROM source) s
), decision AS (
  SELECT account.*, sums.free AS available, sums.earmarked,
         CASE WHEN %(credits)s > sums.free THEN 'short'
              WHEN account.credits_held + %(credits)s > (account.plan ->> 'max_held_share')::numeric * account.credits_remaining
              THEN 'held_share' END AS refusal
    FROM account, (SELECT sum(free) AS free, coalesce(sum(credits) FILTER (WHERE grant_id IS NOT NULL), 0) AS earmarked
                     FROM portion) sums
), balance AS (
  UPDATE credits.team_credits a
     SET credits_held = a.credits_held + %(credits)s, credits_earmarked = a.credits_earmarked - d.earmarked, updated_at = now()
    FROM decision d WHERE a.team_id = d.team_id AND d.refusal IS NULL
  RETURNING a.team_id
), draw AS (
  INSERT INTO credits.grant_draws (holder_id, grant_id, credits_held)
  SELECT %(job_id)s, grant_id, credits FROM portion, balance WHERE grant_id IS NOT NULL AND credits > 0
), reserved AS (
  UPDATE credits.credit_grants g SET credits_held = g.credits_held + portion.credits
    FROM balance, portion WHERE g.grant_id = portion.grant_id AND portion.credits > 0
)
SELECT refusal, available, credits_held AS held FROM decision;

-- name: set_job_money
UPDATE credits.jobs SET credit_cap = %(credit_cap)s, credits_price = %(credits_price)s, calls_included = %(calls_included)s,
       credits_held = %(credits)s
 WHERE job_id = %(job_id)s RETURNING *;

-- name: close_job
-- Close an open job, once: charge its price when it is completed, release all else that it holds itself. What its calls in flight
-- hold stays held until they end. `expired`: only if its time has come, as its on_expiry says.
-- No row when it is closed, or gone, or its metadata would become too large.
WITH account AS (
  SELECT * FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE
), job AS (
  SELECT j.*, CASE WHEN NOT %(expired)s THEN %(status)s::credits.job_status WHEN j.on_expiry = 'complete' THEN 'completed'
                   ELSE 'cancelled' END AS closed_as
    FROM credits.jobs j JOIN account USING (team_id)
   WHERE j.job_id = %(job_id)s AND j.status IN ('pending', 'in_progress') AND (NOT %(expired)s OR j.expires_at <= now())
     AND octet_length((j.metadata || %(metadata)s::jsonb)::text) <= %(most_bytes)s
     FOR NO KEY UPDATE OF j
), draw AS (
  SELECT d.grant_id, d.credits_held AS held, g.priority, g.expires_at, g.created_at,
         g.credits_taken, g.credits_used, g.credits_held
    FROM job JOIN credits.grant_draws d ON d.holder_id = job.job_id JOIN credits.credit_grants g USING (grant_id)
   WHERE job.credits_held > 0
     FOR NO KEY UPDATE OF d, g
), source AS (
  SELECT grant_id, priority, expires_at, created_at, held FROM draw
   UNION ALL
  SELECT NULL, 100, 'infinity', 'infinity', job.credits_held - (SELECT coalesce(sum(held), 0) FROM draw) FROM job
), portion AS (
  SELECT s.grant_id, s.held, least(s.held, greatest(0, CASE job.closed_as WHEN 'completed' THEN job.credits_price ELSE 0 END
                                                       - s.earlier)) AS charge
    FROM job, (SELECT *, coalesce(sum(held) OVER (ORDER BY priority, coalesce(expires_at, 'infinity'), created_at, grant_id
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier FROM source) s
), change AS (
  SELECT sum(charge) AS charge, coalesce(sum(held - charge) FILTER (WHERE grant_id IS NOT NULL), 0) AS earmarked_again FROM portion
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated,
         credits_used = account.credits_used + change.charge,
         credits_remaining = account.credits_remaining - change.charge,
         credits_held = account.credits_held - job.credits_held,
         overdraft_limit = account.overdraft_limit,
         credits_earmarked = account.credits_earmarked + change.earmarked_again,
         updated_at = now()
    FROM account, job, change WHERE a.team_id = account.team_id AND job.credits_held > 0
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining
), paid AS (
  UPDATE credits.credit_grants g
     SET credits_taken = draw.credits_taken, credits_used = draw.credits_used + portion.charge,
         credits_held = draw.credits_held - portion.held
    FROM draw JOIN portion USING (grant_id) WHERE g.grant_id = draw.grant_id
), ended_draw AS (
  UPDATE credits.grant_draws d SET credits_held = 0, credits_charged = portion.charge
    FROM job, portion WHERE d.holder_id = job.job_id AND d.grant_id = portion.grant_id
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, job_id, transaction_type, credits_amount, credits_before, credits_after, reason)
  SELECT balance.account_id, balance.team_id, balance.organization_id, job.job_id, 'charge', -change.charge,
         balance.credits_remaining + change.charge, balance.credits_remaining, 'job ' || job.job_type || ': completed'
    FROM balance, job, change WHERE change.charge > 0
)
UPDATE credits.jobs j
   SET status = job.closed_as, completed_at = now(), metadata = job.metadata || %(metadata)s::jsonb,
       error_message = coalesce(%(error_message)s, CASE WHEN %(expired)s AND job.closed_as = 'cancelled' THEN 'expired' END),
       credits_held = 0, credits_price = job.credits_price, credits_charged = change.charge
  FROM job, change WHERE j.job_id = job.job_id
RETURNING j.*;

-- name: expired_jobs
SELECT job_id, team_id FROM credits.jobs
 WHERE status IN ('pending', 'in_progress') AND expires_at <= now() ORDER BY expires_at LIMIT %(limit)s;

-- name: calls_in_flight
-- A job's, with what settle needs to void them.
SELECT call_id, team_id, model_alias, pricing_input, pricing_output FROM credits.llm_calls
 WHERE job_id = %(job_id)s AND status::text = 'held' ORDER BY call_id;

-- name: call_team
SELECT team_id FROM credits.llm_calls WHERE call_id = %(call_id)s;

-- name: refundable_call
SELECT call_id, job_id, CASE WHEN status IN ('settled', 'expired') THEN credits_charged - credits_refunded ELSE 0 END AS credits
  FROM credits.llm_calls WHERE call_id = %(call_id)s FOR UPDATE;

-- name: refundable_job
-- A job's price, then its calls, the newest first, as far as they were charged and not refunded.
SELECT call_id, credits FROM (
  SELECT NULL::uuid AS call_id, credits_charged - credits_refunded AS credits, 'infinity'::timestamptz AS at
    FROM credits.jobs WHERE job_id = %(job_id)s
   UNION ALL
  SELECT call_id, credits_charged - credits_refunded, created_at
    FROM credits.llm_calls WHERE job_id = %(job_id)s AND status IN ('settled', 'expired')
) charged WHERE credits > 0 ORDER BY at DESC, call_id;

-- name: paying_grants
-- The earmarked grants that paid for a call or a job, the last to burn first, and whether each has expired.
SELECT d.grant_id, d.credits_charged AS credits, coalesce(g.expires_at <= now(), false) AS expired,
       g.priority > 100 AS burns_after_plain
  FROM credits.grant_draws d JOIN credits.credit_grants g USING (grant_id)
 WHERE d.holder_id = %(holder_id)s AND d.credits_charged > 0
 ORDER BY g.priority DESC, g.expires_at DESC NULLS FIRST, g.created_at DESC, g.grant_id DESC;

-- name: refund_balance
-- The ledger entry of a refund, and the balance it makes.
WITH balance AS (
  UPDATE credits.team_credits a
     SET credits_used = a.credits_used - %(credits)s, credits_remaining = a.credits_remaining + %(credits)s,
         credits_earmarked = a.credits_earmarked + %(earmarked)s, updated_at = now()
   WHERE a.team_id = %(team_id)s
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining
)
INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, job_id, call_id, transaction_type, credits_amount,
  credits_before, credits_after, reason, idempotency_key)
SELECT account_id, team_id, organization_id, %(job_id)s, %(call_id)s, 'refund', %(credits)s,
       credits_remaining - %(credits)s, credits_remaining, %(reason)s, %(idempotency_key)s
  FROM balance
RETURNING *;

-- name: refund_call
WITH call AS (
  UPDATE credits.llm_calls SET credits_refunded = credits_refunded + %(credits)s WHERE call_id = %(call_id)s
  RETURNING key_id, counted_on_key
)
UPDATE credits.virtual_keys k SET credits_used = k.credits_used - %(credits)s
  FROM call WHERE call.counted_on_key AND k.key_id = call.key_id;

-- name: refund_job
UPDATE credits.jobs SET credits_refunded = credits_refunded + %(credits)s WHERE job_id = %(job_id)s;

-- name: refund_grant
WITH draw AS (
  UPDATE credits.grant_draws SET credits_charged = credits_charged - %(credits)s
   WHERE holder_id = %(holder_id)s AND grant_id = %(grant_id)s
)
UPDATE credits.credit_grants SET credits_used = credits_used - %(credits)s WHERE grant_id = %(grant_id)s;

-- name: transaction
SELECT * FROM credits.credit_transactions WHERE transaction_id = %(transaction_id)s;

-- name: balance
-- With what any call can be held from now.
SELECT a.*, a.credits_remaining - a.credits_held + a.overdraft_limit - a.credits_earmarked
         + CASE WHEN a.credits_earmarked > 0 THEN (
             SELECT coalesce(sum(credits_granted - credits_taken - credits_used - credits_held), 0) FROM credits.credit_grants g
              WHERE g.team_id = a.team_id AND g.earmarked AND g.ended_at IS NULL AND g.model_aliases = '{}' AND g.job_types = '{}'
                AND g.effective_at <= now() AND (g.expires_at IS NULL OR g.expires_at > now())) ELSE 0 END AS credits_available
  FROM credits.team_credits a WHERE a.team_id = %(team_id)s;

-- name: transactions
-- A page of a team's ledger, newest first; `before` is the last transaction_id of the page before.
SELECT e.* FROM credits.credit_transactions e JOIN credits.team_credits a USING (account_id)
 WHERE a.team_id = %(team_id)s AND (%(before)s::bigint IS NULL OR e.transaction_id < %(before)s)
 ORDER BY e.transaction_id DESC LIMIT %(limit)s;
