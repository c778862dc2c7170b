-- Does every credit explain itself (DESIGN 1, P6)? Each check reads all teams, or the one of team_id, and returns the first
-- `limit` differences, with the number of all in `differences`. An account that no team has any more belonged to a deleted team.

-- name: prepare
-- Sums over millions of rows: memory for their hash tables, for this transaction only.
SELECT set_config('work_mem', '256MB', true), set_config('jit', 'off', true), set_config('statement_timeout', '0', true);

-- name: extent
SELECT (SELECT count(*) FROM credits.teams WHERE %(team_id)s::text IS NULL OR team_id = %(team_id)s) AS teams,
       (SELECT count(*) FROM credits.llm_calls WHERE %(team_id)s::text IS NULL OR team_id = %(team_id)s) AS calls,
       (SELECT count(*) FROM credits.credit_transactions
         WHERE %(team_id)s::text IS NULL
            OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s)) AS entries;

-- name: accounts
-- Every team has a balance, and its own columns agree: nothing is overdrawn (P1).
SELECT t.team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM credits.teams t LEFT JOIN credits.team_credits a USING (team_id),
       LATERAL (VALUES
         ('balance row', 1::numeric, (a.team_id IS NOT NULL)::int::numeric),
         ('credits_remaining = allocated - used', a.credits_allocated - a.credits_used, a.credits_remaining),
         ('overdrawn by', 0, greatest(0, a.credits_used + a.credits_held - a.credits_allocated - a.overdraft_limit))
       ) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR t.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY t.team_id, v.subject LIMIT %(limit)s;

-- name: balances
-- Balances are sums of ledger entries: what calls were charged is used, everything else is allocated.
WITH sums AS (
  SELECT account_id, sum(credits_amount) AS total, sum(credits_amount) FILTER (WHERE call_id IS NULL) AS allocated,
         -sum(credits_amount) FILTER (WHERE call_id IS NOT NULL) AS used
    FROM credits.credit_transactions
   WHERE %(team_id)s::text IS NULL
      OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s)
   GROUP BY account_id
)
SELECT a.team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM credits.team_credits a LEFT JOIN sums s USING (account_id),
       LATERAL (VALUES ('credits_remaining', coalesce(s.total, 0), a.credits_remaining),
                       ('credits_allocated', coalesce(s.allocated, 0), a.credits_allocated),
                       ('credits_used', coalesce(s.used, 0), a.credits_used)) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR a.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY a.team_id, v.subject LIMIT %(limit)s;

-- name: closed
-- The ledger of a deleted team ends at zero.
SELECT max(team_id) AS team_id, 'account ' || account_id AS subject, 0::numeric AS expected, sum(credits_amount) AS found,
       count(*) OVER () AS differences
  FROM credits.credit_transactions e
 WHERE (%(team_id)s::text IS NULL OR team_id = %(team_id)s)
   AND NOT EXISTS (SELECT FROM credits.team_credits a WHERE a.account_id = e.account_id)
 GROUP BY account_id HAVING sum(credits_amount) <> 0
 ORDER BY account_id LIMIT %(limit)s;

-- name: chain
-- Each entry of an account begins with the balance that the one before it left.
WITH entries AS (
  SELECT transaction_id, team_id, credits_before, credits_amount, credits_after,
         lag(credits_after, 1, 0::numeric) OVER (PARTITION BY account_id ORDER BY transaction_id) AS left_before
    FROM credits.credit_transactions
   WHERE %(team_id)s::text IS NULL
      OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s)
)
SELECT team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM entries,
       LATERAL (VALUES ('entry ' || transaction_id || ' credits_before', left_before, credits_before),
                       ('entry ' || transaction_id || ' credits_after', credits_before + credits_amount, credits_after)
       ) AS v(subject, expected, found)
 WHERE left_before <> credits_before OR credits_before + credits_amount <> credits_after
   AND v.expected <> v.found
 ORDER BY transaction_id LIMIT %(limit)s;

-- name: charges
-- What a call was charged is what its entries in the ledger of its team say, one of them the charge and the rest corrections.
-- Entries of a call that was deleted with its job or its team stay, and are all that is left of it.
WITH entries AS (
  SELECT call_id, account_id, max(team_id) AS team_id, max(job_id::text)::uuid AS job_id, -sum(credits_amount) AS charged,
         count(*) FILTER (WHERE transaction_type = 'charge') AS charges
    FROM credits.credit_transactions
   WHERE call_id IS NOT NULL
     AND (%(team_id)s::text IS NULL
          OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s))
   GROUP BY call_id, account_id
), calls AS (
  SELECT call_id, c.team_id, account_id, credits_charged
    FROM credits.llm_calls c LEFT JOIN credits.team_credits USING (team_id)
   WHERE %(team_id)s::text IS NULL OR c.team_id = %(team_id)s
), both_sides AS (
  SELECT coalesce(c.team_id, e.team_id) AS team_id, call_id, c.call_id IS NULL AS gone, e.account_id, e.job_id,
         c.credits_charged, coalesce(e.charged, 0) AS charged, coalesce(e.charges, 0) AS charges, e.call_id IS NOT NULL AS entered
    FROM calls c FULL JOIN entries e USING (call_id, account_id)
)
SELECT b.team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM both_sides b,
       LATERAL (VALUES
         ('call ' || call_id || ' credits_charged', charged, CASE WHEN gone THEN charged ELSE credits_charged END),
         ('call ' || call_id || ' charge entries', 1::numeric, CASE WHEN entered THEN charges ELSE 1 END),
         ('call ' || call_id || ' row', 1, CASE WHEN gone
            AND EXISTS (SELECT FROM credits.team_credits a WHERE a.account_id = b.account_id)
            AND (b.job_id IS NULL OR EXISTS (SELECT FROM credits.jobs j WHERE j.job_id = b.job_id)) THEN 0 ELSE 1 END)
       ) AS v(subject, expected, found)
 WHERE (gone OR charged <> credits_charged OR (entered AND charges <> 1)) AND v.expected <> v.found
 ORDER BY call_id, v.subject LIMIT %(limit)s;

-- name: endings
-- Only calls that settled, or expired under a plan that charges the hold, were charged.
SELECT team_id, 'call ' || call_id || ' (' || status || ') credits_charged' AS subject, 0::numeric AS expected,
       credits_charged AS found, count(*) OVER () AS differences
  FROM credits.llm_calls
 WHERE (%(team_id)s::text IS NULL OR team_id = %(team_id)s)
   AND credits_charged <> 0
   AND (status IN ('held', 'voided') OR (status = 'expired' AND policy IS DISTINCT FROM 'on_process_death=charge_hold'))
 ORDER BY call_id LIMIT %(limit)s;

-- name: holds
-- What is held of a balance is what its calls in flight hold.
WITH sums AS (
  SELECT team_id, sum(credits_held) AS held FROM credits.llm_calls
   WHERE status = 'held' AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s) GROUP BY team_id
)
SELECT a.team_id, 'credits_held' AS subject, coalesce(s.held, 0) AS expected, a.credits_held AS found,
       count(*) OVER () AS differences
  FROM credits.team_credits a LEFT JOIN sums s USING (team_id)
 WHERE (%(team_id)s::text IS NULL OR a.team_id = %(team_id)s) AND coalesce(s.held, 0) <> a.credits_held
 ORDER BY a.team_id LIMIT %(limit)s;

-- name: leases
-- Nothing is held for a process that died: its lease may have run out, but not longer ago than a sweep takes to come.
SELECT team_id, 'call ' || call_id || ' held since ' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
         || ', seconds since its lease' AS subject,
       %(grace_seconds)s::numeric AS expected, round(extract(epoch FROM now() - lease_until), 3) AS found,
       count(*) OVER () AS differences
  FROM credits.llm_calls
 WHERE status = 'held' AND lease_until < now() - make_interval(secs => %(grace_seconds)s)
   AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s)
 ORDER BY lease_until LIMIT %(limit)s;
