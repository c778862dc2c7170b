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
         ('overdrawn by', 0, greatest(0, a.credits_used + a.credits_held + a.credits_earmarked - a.credits_allocated - a.overdraft_limit))
       ) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR t.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY t.team_id, v.subject LIMIT %(limit)s;

-- name: balances
-- Balances are sums of ledger entries: what calls and jobs were charged, less refunds, is used, everything else is allocated.
WITH sums AS (
  SELECT account_id, sum(credits_amount) AS total, sum(credits_amount) FILTER (WHERE NOT spent) AS allocated,
         -sum(credits_amount) FILTER (WHERE spent) AS used
    FROM (SELECT *, call_id IS NOT NULL OR transaction_type IN ('charge', 'refund') AS spent FROM credits.credit_transactions) e
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
   WHERE call_id IS NOT NULL AND transaction_type <> 'refund'
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

-- name: refunds
-- Of a call, or a job with its calls, was refunded what the ledger says. The refunds of what was deleted stay, and are all there is.
WITH entries AS (
  SELECT call_id, job_id, account_id, sum(credits_amount) AS refunded FROM credits.credit_transactions
   WHERE transaction_type = 'refund'
     AND (%(team_id)s::text IS NULL
          OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s))
   GROUP BY call_id, job_id, account_id
), jobs AS (
  SELECT j.team_id, 'job ' || j.job_id || ' credits_refunded' AS subject,
         (SELECT coalesce(sum(e.refunded), 0) FROM entries e WHERE e.job_id = j.job_id) AS expected,
         j.credits_refunded + coalesce((SELECT sum(c.credits_refunded) FROM credits.llm_calls c WHERE c.job_id = j.job_id), 0) AS found
    FROM credits.jobs j
   WHERE (%(team_id)s::text IS NULL OR j.team_id = %(team_id)s)
     AND (j.credits_refunded > 0 OR j.job_id IN (SELECT job_id FROM entries)
          OR j.job_id IN (SELECT job_id FROM credits.llm_calls WHERE credits_refunded > 0))
), calls AS (
  SELECT c.team_id, 'call ' || c.call_id || ' credits_refunded' AS subject, coalesce(e.refunded, 0) AS expected,
         c.credits_refunded AS found
    FROM credits.llm_calls c LEFT JOIN entries e USING (call_id)
   WHERE (%(team_id)s::text IS NULL OR c.team_id = %(team_id)s) AND c.job_id IS NULL
     AND (c.credits_refunded > 0 OR e.call_id IS NOT NULL)
)
SELECT *, count(*) OVER () AS differences FROM (TABLE jobs UNION ALL TABLE calls) told
 WHERE expected <> found ORDER BY subject LIMIT %(limit)s;

-- name: jobs
-- A job was charged its price once, when it was completed; an open one holds its price and what its calls have not drawn of its cap.
WITH entries AS (
  SELECT job_id, -sum(credits_amount) AS charged FROM credits.credit_transactions
   WHERE transaction_type = 'charge' AND call_id IS NULL
     AND (%(team_id)s::text IS NULL
          OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s))
   GROUP BY job_id
), drawn AS (
  SELECT job_id, sum(CASE WHEN status = 'held' THEN credits_held ELSE credits_charged END) AS credits
    FROM credits.llm_calls WHERE drawn_on_job AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s) GROUP BY job_id
)
SELECT j.team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM credits.jobs j LEFT JOIN entries e USING (job_id) LEFT JOIN drawn d USING (job_id),
       LATERAL (VALUES
         ('job ' || job_id || ' credits_charged', coalesce(e.charged, 0), j.credits_charged),
         ('job ' || job_id || ' price', CASE j.status WHEN 'completed' THEN j.credits_price ELSE 0 END, j.credits_charged),
         ('job ' || job_id || ' credits_held', CASE WHEN j.status IN ('pending', 'in_progress')
            THEN j.credits_price + coalesce(j.credit_cap - coalesce(d.credits, 0), 0) ELSE 0 END, j.credits_held),
         ('job ' || job_id || ' over its cap by', 0, greatest(0, d.credits - j.credit_cap))
       ) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR j.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY job_id, v.subject LIMIT %(limit)s;

-- name: grants
-- All that is allocated comes from grants. An earmarked one was spent and is held as calls and jobs drew on it, within its amount,
-- and the balance knows what is left of all of them. Of one that has ended nothing is: no sweep looks at it any more.
WITH draws AS (
  SELECT grant_id, sum(d.credits_held) AS held, sum(d.credits_charged) AS charged
    FROM credits.grant_draws d JOIN credits.credit_grants g USING (grant_id)
   WHERE %(team_id)s::text IS NULL OR g.team_id = %(team_id)s GROUP BY grant_id
), entries AS (
  SELECT grant_id, sum(credits_amount) FILTER (WHERE credits_amount > 0) AS granted,
         -sum(credits_amount) FILTER (WHERE credits_amount < 0) AS taken
    FROM credits.credit_transactions
   WHERE grant_id IS NOT NULL
     AND (%(team_id)s::text IS NULL
          OR account_id = (SELECT account_id FROM credits.team_credits WHERE team_id = %(team_id)s))
   GROUP BY grant_id
), told AS (
  SELECT g.team_id, 'grant ' || g.grant_id || v.subject AS subject, v.expected, v.found
    FROM credits.credit_grants g LEFT JOIN draws d USING (grant_id) LEFT JOIN entries e USING (grant_id),
         LATERAL (VALUES
           (' credits_held', coalesce(d.held, 0), g.credits_held),
           (' credits_used', coalesce(d.charged, 0), g.credits_used),
           (' credits_granted', coalesce(e.granted, g.credits_granted), g.credits_granted),
           (' taken back in the ledger beyond credits_taken', 0, greatest(0, coalesce(e.taken, 0) - g.credits_taken)),
           (' overdrawn by', 0, greatest(0, g.credits_taken + g.credits_used + g.credits_held - g.credits_granted)),
           (' has ended, and left', 0, CASE WHEN g.ended_at IS NOT NULL THEN g.credits_granted - g.credits_taken - g.credits_used ELSE 0 END)
         ) AS v(subject, expected, found)
   WHERE %(team_id)s::text IS NULL OR g.team_id = %(team_id)s
   UNION ALL
  SELECT a.team_id, v.subject, v.expected, v.found
    FROM credits.team_credits a
    LEFT JOIN (SELECT team_id, sum(credits_granted - credits_taken) AS net,
                      sum(credits_granted - credits_taken - credits_used - credits_held) FILTER (WHERE earmarked) AS earmarked
                 FROM credits.credit_grants GROUP BY team_id) g USING (team_id),
         LATERAL (VALUES ('grants less what was taken back', coalesce(g.net, 0), a.credits_allocated),
                         ('credits_earmarked', coalesce(g.earmarked, 0), a.credits_earmarked)) AS v(subject, expected, found)
   WHERE %(team_id)s::text IS NULL OR a.team_id = %(team_id)s
)
SELECT *, count(*) OVER () AS differences FROM told WHERE expected <> found ORDER BY team_id, subject LIMIT %(limit)s;

-- name: draws
-- What a call or a job holds of grants, and what they paid, is part of what it holds and was charged.
WITH draws AS (
  SELECT holder_id, sum(d.credits_held) AS held, sum(d.credits_charged) AS charged
    FROM credits.grant_draws d JOIN credits.credit_grants g USING (grant_id)
   WHERE %(team_id)s::text IS NULL OR g.team_id = %(team_id)s GROUP BY holder_id
), holders AS (
  SELECT c.team_id, 'call ' || c.call_id AS holder, d.held, d.charged, c.credits_charged - c.credits_refunded AS paid,
         CASE c.status WHEN 'held' THEN c.credits_held ELSE 0 END AS holds
    FROM draws d JOIN credits.llm_calls c ON c.call_id = d.holder_id
   UNION ALL
  SELECT j.team_id, 'job ' || j.job_id, d.held, d.charged, j.credits_charged - j.credits_refunded, j.credits_held
    FROM draws d JOIN credits.jobs j ON j.job_id = d.holder_id
)
SELECT team_id, holder || v.subject AS subject, v.expected, v.found, count(*) OVER () AS differences
  FROM holders, LATERAL (VALUES (' holds of grants', least(held, holds), held), (' paid by grants', least(charged, paid), charged)
       ) AS v(subject, expected, found)
 WHERE v.expected <> v.found ORDER BY 2 LIMIT %(limit)s;

-- name: keys
-- A key under a limit has counted what its calls hold, and at least what those that are still there were charged.
WITH sums AS (
  SELECT key_id, sum(credits_held) FILTER (WHERE status = 'held') AS held, sum(credits_charged - credits_refunded) AS used
    FROM credits.llm_calls WHERE counted_on_key AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s) GROUP BY key_id
)
SELECT k.team_id, 'key ' || k.key_id || v.subject AS subject, v.expected, v.found, count(*) OVER () AS differences
  FROM credits.virtual_keys k LEFT JOIN sums s USING (key_id),
       LATERAL (VALUES (' credits_held', coalesce(s.held, 0), k.credits_held),
                       (' credits_used', greatest(coalesce(s.used, 0), k.credits_used), k.credits_used)) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR k.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY k.key_id, v.subject LIMIT %(limit)s;

-- name: holds
-- What is held of a balance is what its calls in flight and its jobs hold.
WITH calls AS (
  SELECT team_id, sum(credits_held) AS held, count(*) AS calls FROM credits.llm_calls
   WHERE status = 'held' AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s) GROUP BY team_id
), jobs AS (
  SELECT team_id, sum(credits_held) AS held FROM credits.jobs
   WHERE credits_held > 0 AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s) GROUP BY team_id
)
SELECT a.team_id, v.subject, v.expected, v.found, count(*) OVER () AS differences
  FROM credits.team_credits a LEFT JOIN calls c USING (team_id) LEFT JOIN jobs j USING (team_id),
       LATERAL (VALUES ('calls_held', coalesce(c.calls, 0), a.calls_held::bigint),
                       ('credits_held', coalesce(c.held, 0) + coalesce(j.held, 0), a.credits_held)) AS v(subject, expected, found)
 WHERE (%(team_id)s::text IS NULL OR a.team_id = %(team_id)s) AND v.expected <> v.found
 ORDER BY a.team_id, v.subject LIMIT %(limit)s;

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
