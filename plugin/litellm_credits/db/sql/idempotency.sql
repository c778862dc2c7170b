-- Requests that must be done once. A claim names the attempt that may do one; its process renews the claim's lease while it lives.
-- What an attempt did decides what a later one may: `done` is set by the very transaction that did it, and the call that it made
-- stands in llm_calls.

-- name: claim
-- Take a request, if it is new, or if the attempt that had it is over and did nothing: then the call that it made was voided.
-- No row: see `earlier`.
INSERT INTO credits.idempotency_keys AS k (
  scope, method, path, idempotency_key, fingerprint, claim_id, lease_until, expires_at)
VALUES (%(scope)s, %(method)s, %(path)s, %(key)s, %(fingerprint)s, %(claim_id)s,
        now() + make_interval(secs => %(lease_seconds)s), now() + make_interval(secs => %(kept_seconds)s))
ON CONFLICT (scope, method, path, idempotency_key) DO UPDATE
   SET fingerprint = excluded.fingerprint, claim_id = excluded.claim_id, lease_until = excluded.lease_until,
       expires_at = excluded.expires_at, created_at = now(), done = false, call_id = NULL, status = NULL, answer = NULL
 WHERE k.lease_until <= now()
   AND (k.expires_at <= now()
        OR (k.fingerprint = excluded.fingerprint AND k.status IS NULL AND NOT k.done
            AND (k.call_id IS NULL
                 OR EXISTS (SELECT FROM credits.llm_calls c WHERE c.call_id = k.call_id AND c.status = 'voided'))))
RETURNING claim_id;

-- name: earlier
-- The attempt that has a request, and the call that it made.
SELECT k.fingerprint = %(fingerprint)s AS same, k.lease_until > now() OR coalesce(c.status = 'held', false) AS in_flight,
       k.status, k.answer, k.call_id, c.status AS call_status, c.basis, c.job_id, c.model_alias, c.prompt_tokens,
       c.completion_tokens, c.credits_held, c.credits_charged, c.created_at
  FROM credits.idempotency_keys k LEFT JOIN credits.llm_calls c USING (call_id)
 WHERE k.scope = %(scope)s AND k.method = %(method)s AND k.path = %(path)s AND k.idempotency_key = %(key)s;

-- name: mark_done
-- To be committed with what it says. No row: the lease ran out, and another attempt has the request.
UPDATE credits.idempotency_keys SET done = true WHERE claim_id = %(claim_id)s RETURNING claim_id;

-- name: note_call
-- No row: as mark_done.
UPDATE credits.idempotency_keys SET call_id = %(call_id)s WHERE claim_id = %(claim_id)s RETURNING claim_id;

-- name: complete
-- The answer is complete; null where it is not kept.
UPDATE credits.idempotency_keys SET status = %(status)s, answer = %(answer)s, lease_until = now()
 WHERE claim_id = %(claim_id)s;

-- name: let_go
-- The attempt is over without an answer to keep. A refusal has done nothing.
UPDATE credits.idempotency_keys SET lease_until = now(), done = done AND NOT %(refused)s
 WHERE claim_id = %(claim_id)s;

-- name: renew
-- Also a lease that ran out while the database was away, as long as nobody has taken the request.
UPDATE credits.idempotency_keys SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
 WHERE claim_id IN (SELECT claim_id FROM credits.idempotency_keys
                     WHERE claim_id = ANY(%(claim_ids)s) AND status IS NULL FOR NO KEY UPDATE SKIP LOCKED);

-- name: sweep
-- Forget what was kept long enough, at most `limit`. Returns what it forgot.
DELETE FROM credits.idempotency_keys
 WHERE claim_id IN (SELECT claim_id FROM credits.idempotency_keys
                     WHERE expires_at < now() AND lease_until < now()
                     ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING claim_id;
