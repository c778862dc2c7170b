-- The audit log. Its entries are written by the trigger function credits.audit() (migrations), in the changing transaction.

-- name: announce
-- Who acts in this transaction.
SELECT set_config('credits.actor', %(actor)s, true), set_config('credits.actor_key', %(actor_key)s, true),
       set_config('credits.client_address', %(client_address)s, true), set_config('credits.action', %(action)s, true),
       set_config('credits.request_id', %(request_id)s, true);

-- name: entries
-- A page of the log, newest first; `before` is the last audit_id of the page before. What is null filters nothing.
SELECT * FROM credits.audit_log
 WHERE (%(before)s::bigint IS NULL OR audit_id < %(before)s)
   AND (%(organization_id)s::text IS NULL OR organization_id = %(organization_id)s)
   AND (%(team_id)s::text IS NULL OR team_id = %(team_id)s)
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
   AND (%(subject_id)s::text IS NULL OR subject_id = %(subject_id)s)
   AND (%(actor)s::text IS NULL OR actor = %(actor)s)
   AND (%(request_id)s::uuid IS NULL OR request_id = %(request_id)s)
   AND (%(start)s::timestamptz IS NULL OR created_at >= %(start)s)
   AND (%(end)s::timestamptz IS NULL OR created_at < %(end)s)
 ORDER BY audit_id DESC LIMIT %(limit)s;
