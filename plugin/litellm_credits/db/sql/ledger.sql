-- The money. Each statement is one transaction and one round trip.
-- Lock order everywhere: team_credits (by team_id), then jobs, then llm_calls. Every change of a balance starts with
-- the lock on its team_credits row, so the statements of one team run one after the other and cannot deadlock.
-- available = credits_allocated - credits_used - credits_held + overdraft_limit, never negative (P1).
-- A statement that waited for its lock has an older snapshot than the row it locked. So amounts are written as computed from
-- the locked row, all of them: PostgreSQL checks constraints against the snapshot's version first, and would refuse a change
-- that only fits the newest one.

-- name: hold
-- Reserve credits for a call, all or nothing, and open its row (P1, P2).
-- Always one row: held is true when it was reserved; otherwise the other columns say why not.
WITH job AS (
  SELECT team_id, status FROM credits.jobs WHERE job_id = %(job_id)s
), account AS (
  UPDATE credits.team_credits a
     SET credits_held = a.credits_held + %(credits)s
    FROM credits.teams t JOIN credits.organizations o USING (organization_id)
   WHERE a.team_id = %(team_id)s AND t.team_id = a.team_id
     AND t.status = 'active' AND o.status = 'active'
     AND a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit >= %(credits)s
     AND (%(job_id)s::uuid IS NULL
          OR EXISTS (SELECT FROM job WHERE job.team_id = a.team_id AND job.status IN ('pending', 'in_progress')))
  RETURNING a.team_id, a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit AS available
), call AS (
  INSERT INTO credits.llm_calls (
    call_id, job_id, team_id, key_id, litellm_call_id, endpoint, purpose, status, requested_model, model_group_used,
    model_alias, pricing_input, pricing_output, credits_held, stream, worker_id, lease_until)
  SELECT %(call_id)s, %(job_id)s, team_id, %(key_id)s, %(litellm_call_id)s, %(endpoint)s, %(purpose)s, 'held',
    %(requested_model)s, %(model_group_used)s, %(model_alias)s, %(pricing_input)s, %(pricing_output)s, %(credits)s,
    %(stream)s, %(worker_id)s, now() + make_interval(secs => %(lease_seconds)s)
    FROM account
), started AS (
  UPDATE credits.jobs SET status = 'in_progress', started_at = now()
   WHERE job_id = %(job_id)s AND status = 'pending' AND EXISTS (SELECT FROM account)
)
SELECT account.team_id IS NOT NULL AS held,
       coalesce(account.available, seen.credits_allocated - seen.credits_used - seen.credits_held + seen.overdraft_limit) AS available,
       seen.credits_held AS held_by_others,
       seen.team_id IS NOT NULL AND t.status = 'active' AND o.status = 'active' AS team_active,
       job.team_id AS job_team, job.status AS job_status
  FROM (SELECT) AS always
  LEFT JOIN account ON true
  LEFT JOIN job ON true
  LEFT JOIN credits.team_credits seen ON seen.team_id = %(team_id)s
  LEFT JOIN credits.teams t ON t.team_id = %(team_id)s
  LEFT JOIN credits.organizations o ON o.organization_id = t.organization_id;

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

-- name: settle
-- End a hold once: charge, release the rest, write the ledger entry (P3, P4). Status settled or voided.
-- No row: somebody else ended it before, and nothing was changed. An ending that comes after the hold expired is accounted
-- too, once, as far as the balance goes: a settle always, a void where expiry had charged.
WITH account AS (
  SELECT *, credits_allocated - credits_used - credits_held + overdraft_limit AS available
    FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE
), before AS (
  SELECT c.call_id, c.status, c.credits_charged, c.credits_held AS credits_bound,
         CASE WHEN c.status = 'held' THEN c.credits_held ELSE 0 END AS released, account.available
    FROM credits.llm_calls c JOIN account USING (team_id)
   WHERE c.call_id = %(call_id)s
     AND (c.status = 'held'
          OR (c.status = 'expired' AND (%(status)s::credits.call_status = 'settled' OR c.credits_charged > 0)))
     FOR UPDATE OF c
), change AS (
  SELECT *, least(%(credits)s - credits_charged, available + released) AS charge FROM before
), call AS (
  UPDATE credits.llm_calls c
     SET status = %(status)s, basis = %(basis)s, policy = %(policy)s,
         flags = c.flags || %(flags)s::text[]
           || CASE WHEN %(credits)s > change.credits_bound THEN ARRAY['bound_exceeded'] ELSE '{}' END
           || CASE WHEN change.status = 'expired' THEN ARRAY['late_settle'] ELSE '{}' END,
         model_alias = %(model_alias)s, resolved_model = %(resolved_model)s,
         prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s, total_tokens = %(total_tokens)s,
         cached_tokens = %(cached_tokens)s, cache_write_tokens = %(cache_write_tokens)s, reasoning_tokens = %(reasoning_tokens)s,
         audio_input_tokens = %(audio_input_tokens)s, audio_output_tokens = %(audio_output_tokens)s, units = %(units)s,
         pricing_input = %(pricing_input)s, pricing_output = %(pricing_output)s, pricing_rates = %(pricing_rates)s,
         cost_usd = %(cost_usd)s, provider_cost_usd = %(provider_cost_usd)s,
         credits_charged = change.credits_charged + change.charge,
         credits_uncollected = %(credits)s - change.credits_charged - change.charge,
         latency_ms = %(latency_ms)s, time_to_first_token_ms = %(time_to_first_token_ms)s,
         request_data = %(request_data)s, response_data = %(response_data)s, error = %(error)s,
         settled_at = now()
    FROM change
   WHERE c.call_id = change.call_id
  RETURNING c.job_id, c.credits_charged, c.credits_uncollected, c.flags
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated,
         credits_used = account.credits_used + change.charge,
         credits_remaining = account.credits_remaining - change.charge,
         credits_held = account.credits_held - change.released,
         overdraft_limit = account.overdraft_limit,
         updated_at = now()
    FROM account, change
   WHERE a.team_id = account.team_id
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining,
            a.credits_allocated - a.credits_used - a.credits_held + a.overdraft_limit AS available
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, job_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
  SELECT balance.account_id, balance.team_id, balance.organization_id, call.job_id, %(call_id)s,
         CASE WHEN change.credits_charged = 0 THEN 'charge' ELSE 'adjustment' END::credits.transaction_type,
         -change.charge, balance.credits_remaining + change.charge, balance.credits_remaining, %(reason)s
    FROM change, call, balance WHERE change.charge <> 0
)
SELECT call.credits_charged, call.credits_uncollected, call.flags, balance.credits_remaining, balance.available
  FROM call, balance;

-- name: renew
-- Vouch again for holds of calls that are still in flight in this worker. Waits for nobody: a call that is locked is ending.
UPDATE credits.llm_calls SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
 WHERE call_id IN (SELECT call_id FROM credits.llm_calls
                    WHERE call_id = ANY(%(call_ids)s) AND status = 'held' FOR UPDATE SKIP LOCKED);

-- name: expire
-- End holds that nobody vouches for any more, the oldest first, at most `limit`: the process died (DESIGN 2). Each once, however
-- many sweepers run: all balances are locked first, in their order; then the calls, of which one that is locked is being renewed.
-- The team's plan decides: the hold is released, or charged. Either way the row is flagged, and a late settle corrects it.
WITH due AS MATERIALIZED (
  SELECT call_id, team_id FROM credits.llm_calls
   WHERE status = 'held' AND lease_until < now() ORDER BY lease_until LIMIT %(limit)s
), account AS MATERIALIZED (
  SELECT * FROM credits.team_credits WHERE team_id IN (SELECT team_id FROM due) ORDER BY team_id FOR UPDATE
), call AS (
  SELECT c.call_id, c.team_id, c.job_id, c.model_alias, c.credits_held AS released,
         coalesce(t.plan ->> 'on_process_death', 'release') AS policy,
         CASE t.plan ->> 'on_process_death' WHEN 'charge_hold' THEN c.credits_held ELSE 0 END AS charge
    FROM due JOIN credits.llm_calls c USING (call_id) JOIN account a ON a.team_id = c.team_id
    JOIN credits.teams t ON t.team_id = c.team_id
   WHERE c.status = 'held' AND c.lease_until < now() AND (SELECT count(*) FROM account) > 0
     FOR UPDATE OF c SKIP LOCKED
), ended AS (
  UPDATE credits.llm_calls c
     SET status = 'expired', settled_at = now(), credits_charged = call.charge, policy = 'on_process_death=' || call.policy,
         flags = c.flags || '{lease_expired,needs_reconciliation}'::text[]
    FROM call WHERE c.call_id = call.call_id
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated,
         credits_used = account.credits_used + change.charge,
         credits_remaining = account.credits_remaining - change.charge,
         credits_held = account.credits_held - change.released,
         overdraft_limit = account.overdraft_limit,
         updated_at = now()
    FROM account JOIN (SELECT team_id, sum(charge) AS charge, sum(released) AS released FROM call GROUP BY team_id) change
         USING (team_id)
   WHERE a.team_id = account.team_id
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, job_id, call_id, transaction_type, credits_amount, credits_before, credits_after, reason)
  SELECT account_id, team_id, organization_id, job_id, call_id, 'charge', -charge,
         credits_remaining - charged + charge, credits_remaining - charged, 'call ' || model_alias || ': expired, charged as held'
    FROM (SELECT *, sum(charge) OVER (PARTITION BY team_id ORDER BY call_id) AS charged FROM call WHERE charge > 0) charges
    JOIN account USING (team_id)
   ORDER BY team_id, charged
)
SELECT call_id, team_id, released, charge AS charged FROM call;

-- name: grant
-- Change what a team was allocated, once per idempotency key. Amounts below zero take back what is neither spent nor held.
-- Always one row while the team exists: applied is false when the key was seen before or the balance is too low.
WITH account AS (
  SELECT *, credits_allocated - credits_used - credits_held + overdraft_limit AS available
    FROM credits.team_credits WHERE team_id = %(team_id)s FOR UPDATE
), earlier AS (
  SELECT transaction_id, credits_amount, transaction_type FROM credits.credit_transactions e JOIN account USING (account_id)
   WHERE e.idempotency_key = %(idempotency_key)s
), balance AS (
  UPDATE credits.team_credits a
     SET credits_allocated = account.credits_allocated + %(credits)s,
         credits_used = account.credits_used,
         credits_remaining = account.credits_remaining + %(credits)s,
         credits_held = account.credits_held,
         overdraft_limit = account.overdraft_limit,
         updated_at = now()
    FROM account
   WHERE a.team_id = account.team_id AND NOT EXISTS (SELECT FROM earlier) AND account.available + %(credits)s >= 0
  RETURNING a.account_id, a.team_id, a.organization_id, a.credits_remaining
), entry AS (
  INSERT INTO credits.credit_transactions (
    account_id, team_id, organization_id, transaction_type, credits_amount, credits_before, credits_after, reason, idempotency_key)
  SELECT account_id, team_id, organization_id, %(transaction_type)s, %(credits)s,
         credits_remaining - %(credits)s, credits_remaining, %(reason)s, %(idempotency_key)s
    FROM balance
  RETURNING transaction_id
)
SELECT coalesce(entry.transaction_id, earlier.transaction_id) AS transaction_id,
       entry.transaction_id IS NOT NULL AS applied, account.available,
       earlier.credits_amount = %(credits)s AND earlier.transaction_type = %(transaction_type)s AS same
  FROM account LEFT JOIN entry ON true LEFT JOIN earlier ON true;

-- name: transaction
SELECT * FROM credits.credit_transactions WHERE transaction_id = %(transaction_id)s;

-- name: balance
SELECT * FROM credits.team_credits WHERE team_id = %(team_id)s;

-- name: transactions
-- A page of a team's ledger, newest first; `before` is the last transaction_id of the page before.
SELECT e.* FROM credits.credit_transactions e JOIN credits.team_credits a USING (account_id)
 WHERE a.team_id = %(team_id)s AND (%(before)s::bigint IS NULL OR e.transaction_id < %(before)s)
 ORDER BY e.transaction_id DESC LIMIT %(limit)s;
