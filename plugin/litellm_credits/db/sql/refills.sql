-- Automatic refills. The lock order at the top of ledger.sql holds here: the balance first.

-- name: set_refill
-- Replace a team's refills. Another period, amount or start begins to count anew; the same go on where they are.
INSERT INTO credits.refills (team_id, period, credits, starts_at, next_at, kind, lapses, rollover_credits, threshold, target, monthly_cap)
VALUES (%(team_id)s, %(period)s, %(credits)s, %(starts_at)s, %(starts_at)s, %(kind)s, %(lapses)s, %(rollover_credits)s,
        %(threshold)s, %(target)s, %(monthly_cap)s)
ON CONFLICT (team_id) DO UPDATE
   SET (period, credits, starts_at, kind, lapses, rollover_credits, threshold, target, monthly_cap) =
       (excluded.period, excluded.credits, excluded.starts_at, excluded.kind, excluded.lapses, excluded.rollover_credits,
        excluded.threshold, excluded.target, excluded.monthly_cap),
       periods = CASE WHEN (refills.period, refills.starts_at) IS NOT DISTINCT FROM (excluded.period, excluded.starts_at)
                      THEN refills.periods ELSE 0 END,
       next_at = CASE WHEN (refills.period, refills.starts_at) IS NOT DISTINCT FROM (excluded.period, excluded.starts_at)
                      THEN refills.next_at ELSE excluded.next_at END,
       updated_at = now()
RETURNING *;

-- name: refill
SELECT * FROM credits.refills WHERE team_id = %(team_id)s;

-- name: delete_refill
DELETE FROM credits.refills WHERE team_id = %(team_id)s;

-- name: due_refills
-- Grants that lapse are made a minute ahead, so that a team has the next ones at the very moment at which it loses these.
SELECT team_id FROM credits.refills
 WHERE next_at <= now() + interval '1 minute' AND (lapses OR next_at <= now()) AND NOT team_id = ANY (%(failed)s) ORDER BY next_at LIMIT %(limit)s;

-- name: advance_refill
-- Begin the next period that is due, and say when it began and when the one after it will: counted from the first in UTC's
-- calendar, so that a month that ends early (the 31st of January, then the 28th of February, then the 31st of March) shifts nothing.
-- No row when another sweeper was first.
UPDATE credits.refills r SET periods = r.periods + 1, next_at = due.after_at
  FROM (SELECT team_id, next_at,
               (starts_at AT TIME ZONE 'UTC' + (periods + 1)
                * CASE period WHEN 'daily' THEN interval '1 day' WHEN 'weekly' THEN interval '7 days' ELSE interval '1 month' END)
               AT TIME ZONE 'UTC' AS after_at
          FROM credits.refills
         WHERE team_id = %(team_id)s AND next_at <= now() + CASE WHEN lapses THEN interval '1 minute' ELSE interval '0' END
           FOR UPDATE) due
 WHERE r.team_id = due.team_id
RETURNING r.*, due.next_at AS began_at;

-- name: watched_balances
-- Teams with a threshold whose spendable credits may lie below it (what is held may be of grants that are not for anything), and those
-- with a request that nobody may need any more.
SELECT r.team_id FROM credits.refills r JOIN credits.team_credits a USING (team_id)
  LEFT JOIN credits.refill_requests q ON q.team_id = r.team_id AND q.status = 'open'
 WHERE r.team_id > %(after)s AND (q.request_id IS NOT NULL OR a.credits_remaining - a.credits_earmarked - a.credits_held < r.threshold)
 ORDER BY r.team_id LIMIT %(limit)s;

-- name: spendable
-- What a team may spend on anything, what is held of it included: the plain balance and the unrestricted grants of today.
SELECT a.credits_remaining
       - coalesce(sum(g.credits_granted - g.credits_taken - g.credits_used)
                  FILTER (WHERE g.model_aliases <> '{}' OR g.job_types <> '{}' OR g.effective_at > now() OR g.expires_at <= now()), 0)
       AS spendable
  FROM credits.team_credits a LEFT JOIN credits.credit_grants g ON g.team_id = a.team_id AND g.earmarked
 WHERE a.team_id = %(team_id)s GROUP BY a.team_id;

-- name: open_request
SELECT * FROM credits.refill_requests WHERE team_id = %(team_id)s AND status = 'open' FOR UPDATE;

-- name: asked_this_month
SELECT coalesce(sum(credits), 0) AS credits FROM credits.refill_requests
 WHERE team_id = %(team_id)s AND status <> 'withdrawn'
   AND created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';

-- name: ask
INSERT INTO credits.refill_requests (team_id, credits, balance) VALUES (%(team_id)s, %(credits)s, %(balance)s) RETURNING *;

-- name: request
SELECT * FROM credits.refill_requests WHERE request_id = %(request_id)s AND team_id = %(team_id)s;

-- name: close_request
UPDATE credits.refill_requests SET status = %(status)s::credits.refill_request_status, closed_at = now()
 WHERE request_id = %(request_id)s RETURNING *;

-- name: requests
-- A page of refill requests, newest first: a team's, or with team_id null all teams'.
SELECT * FROM credits.refill_requests
 WHERE (%(team_id)s::text IS NULL OR team_id = %(team_id)s)
   AND (%(status)s::credits.refill_request_status IS NULL OR status = %(status)s::credits.refill_request_status)
   AND (created_at, request_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                                   coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
 ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s;
