-- Balances where they begin and end: with their team, and with the job whose calls still hold credits; and how far they may go.
-- The lock order at the top of ledger.sql holds here: a transaction of these starts with the lock on the balances, or makes them.

-- name: open_account
-- A new, empty balance. What a team starts with is a grant like any other.
INSERT INTO credits.team_credits (team_id, organization_id) VALUES (%(team_id)s, %(organization_id)s);

-- name: set_overdraft_limit
-- How far a balance may go below zero, with an entry in the audit log, which no trigger on the hot row writes. The transaction has
-- locked the balance. Always one row: `least` is what the limit must be at least, and where that is more nothing was changed.
WITH account AS (
  SELECT *, greatest(0, credits_used + credits_held + credits_earmarked - credits_allocated) AS least
    FROM credits.team_credits WHERE team_id = %(team_id)s
), changed AS (
  UPDATE credits.team_credits a SET overdraft_limit = %(overdraft_limit)s, updated_at = now()
    FROM account
   WHERE a.team_id = account.team_id AND account.least <= %(overdraft_limit)s
     AND account.overdraft_limit <> %(overdraft_limit)s
  RETURNING a.team_id, a.organization_id, account.overdraft_limit AS before, a.overdraft_limit AS after
), actor AS (
  SELECT nullif(current_setting('credits.actor', true), '') AS name
), entry AS (
  INSERT INTO credits.audit_log (
    request_id, actor, actor_key, client_address, action, organization_id, team_id, subject, subject_id, change, before, after)
  SELECT CASE WHEN actor.name IS NOT NULL THEN nullif(current_setting('credits.request_id', true), '')::uuid END,
         coalesce(actor.name, 'database'),
         CASE WHEN actor.name IS NULL THEN session_user ELSE current_setting('credits.actor_key', true) END,
         CASE WHEN actor.name IS NOT NULL THEN nullif(current_setting('credits.client_address', true), '') END,
         CASE WHEN actor.name IS NULL THEN 'SQL' ELSE current_setting('credits.action', true) END,
         organization_id, team_id, 'team_credits', team_id, 'update',
         jsonb_build_object('overdraft_limit', before), jsonb_build_object('overdraft_limit', after)
    FROM changed, actor
)
SELECT least FROM account;

-- name: lock_accounts
-- The teams' balances, one after the other by team_id: from here to the end of the transaction no call of theirs is held or settled.
SELECT team_id FROM credits.team_credits WHERE team_id = ANY(%(team_ids)s) ORDER BY team_id FOR UPDATE;

-- name: organization_accounts
SELECT team_id FROM credits.teams WHERE organization_id = %(organization_id)s;

-- name: close_accounts
-- The last ledger entry of teams that are about to be deleted takes what remains to zero. Calls in flight go with their team,
-- and what they held is part of what remains.
INSERT INTO credits.credit_transactions (
  account_id, team_id, organization_id, transaction_type, credits_amount, credits_before, credits_after, reason)
SELECT account_id, team_id, organization_id, 'closure', -credits_remaining, credits_remaining, 0, %(reason)s
  FROM credits.team_credits WHERE team_id = ANY(%(team_ids)s) ORDER BY team_id;
