-- Balances where they begin and end: with their team, and with the job whose calls still hold credits.
-- The lock order at the top of ledger.sql holds here: a transaction of these starts with lock_accounts.

-- name: open_account
-- A new, empty balance. What a team starts with is a grant like any other.
INSERT INTO credits.team_credits (team_id, organization_id) VALUES (%(team_id)s, %(organization_id)s);

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
