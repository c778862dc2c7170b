-- Organizations, teams and keys.

-- name: principal
-- Everything that the proxy must know of a key, in one read.
SELECT k.key_id, k.status AS key_status, k.expires_at, k.allowed_aliases, k.rpm_limit, k.tpm_limit,
       t.team_id, t.organization_id, t.plan, t.rpm_limit AS team_rpm_limit, t.tpm_limit AS team_tpm_limit,
       'suspended' IN (t.status, o.status) AS suspended, 'paused' IN (t.status, o.status) AS paused,
       ARRAY(SELECT g.group_name::text FROM credits.team_access_groups g
              WHERE g.team_id = t.team_id ORDER BY g.position, g.group_name) AS access_groups
  FROM credits.virtual_keys k
  JOIN credits.teams t USING (team_id)
  JOIN credits.organizations o USING (organization_id)
 WHERE k.key_hash = %(key_hash)s;

-- name: create_organization
-- No row when the id is taken.
INSERT INTO credits.organizations (organization_id, name, metadata)
VALUES (%(organization_id)s, %(name)s, %(metadata)s::jsonb)
ON CONFLICT DO NOTHING RETURNING *;

-- name: organization
SELECT * FROM credits.organizations WHERE organization_id = %(organization_id)s;

-- name: organizations
SELECT * FROM credits.organizations WHERE organization_id > %(after)s ORDER BY organization_id LIMIT %(limit)s;

-- name: keep_organization
-- Nobody deletes the organization before this transaction ends.
SELECT organization_id FROM credits.organizations WHERE organization_id = %(organization_id)s FOR KEY SHARE;

-- name: set_organization_status
UPDATE credits.organizations SET status = %(status)s, updated_at = now()
 WHERE organization_id = %(organization_id)s RETURNING *;

-- name: lock_organization
-- Nobody adds a team to the organization before this transaction ends.
SELECT organization_id FROM credits.organizations WHERE organization_id = %(organization_id)s FOR UPDATE;

-- name: delete_organization
DELETE FROM credits.organizations WHERE organization_id = %(organization_id)s;

-- name: create_team
-- No row when the id is taken.
INSERT INTO credits.teams (team_id, organization_id, team_alias, metadata, plan, rpm_limit, tpm_limit)
VALUES (%(team_id)s, %(organization_id)s, %(team_alias)s, %(metadata)s::jsonb, %(plan)s::jsonb, %(rpm_limit)s, %(tpm_limit)s)
ON CONFLICT DO NOTHING RETURNING team_id;

-- name: team_exists
SELECT team_id FROM credits.teams WHERE team_id = %(team_id)s;

-- name: lock_team
-- Changes of one team run one after the other.
SELECT plan, status FROM credits.teams WHERE team_id = %(team_id)s FOR NO KEY UPDATE;

-- name: update_team
-- Sets the columns that `changes` names, and leaves the others as they are.
UPDATE credits.teams t
   SET (team_alias, metadata, plan, status, rpm_limit, tpm_limit) =
       (SELECT n.team_alias, n.metadata, n.plan, n.status, n.rpm_limit, n.tpm_limit
          FROM jsonb_populate_record(t, %(changes)s::jsonb) n),
       updated_at = now()
 WHERE t.team_id = %(team_id)s
RETURNING t.team_id;

-- name: delete_team
DELETE FROM credits.teams WHERE team_id = %(team_id)s;

-- name: team_ids
SELECT team_id FROM credits.teams WHERE team_id > %(after)s ORDER BY team_id LIMIT %(limit)s;

-- name: organization_team_ids
SELECT team_id FROM credits.teams
 WHERE organization_id = %(organization_id)s AND team_id > %(after)s ORDER BY team_id LIMIT %(limit)s;

-- name: organization_team_count
SELECT count(*) AS teams FROM credits.teams WHERE organization_id = %(organization_id)s;

-- name: team_views
-- Teams with their balance, their groups, and the aliases that these groups let them call, in order of preference.
SELECT t.team_id, t.organization_id, t.team_alias, t.status, t.metadata, t.plan, t.rpm_limit, t.tpm_limit,
       c.credits_allocated, c.credits_used, c.credits_held, c.credits_remaining, c.overdraft_limit,
       ARRAY(SELECT g.group_name::text FROM credits.team_access_groups g
              WHERE g.team_id = t.team_id ORDER BY g.position, g.group_name) AS access_groups,
       ARRAY(SELECT m.model_alias::text
               FROM credits.team_access_groups g
               JOIN credits.model_access_groups s USING (group_name)
               JOIN credits.model_alias_access_groups m USING (group_name)
               JOIN credits.model_aliases a USING (model_alias)
              WHERE g.team_id = t.team_id AND s.status = 'active' AND a.status = 'active'
              GROUP BY m.model_alias ORDER BY min(ARRAY[g.position, m.position]), m.model_alias) AS allowed_model_aliases,
       t.created_at, t.updated_at
  FROM credits.teams t JOIN credits.team_credits c USING (team_id)
 WHERE t.team_id = ANY(%(team_ids)s)
 ORDER BY t.team_id;

-- name: drop_access_groups
-- Takes the groups away that are not in the list.
DELETE FROM credits.team_access_groups WHERE team_id = %(team_id)s AND group_name <> ALL(%(access_groups)s::text[]);

-- name: assign_access_groups
-- Puts the groups in this order. Returns those that exist; nobody deletes one of them before this transaction ends.
WITH known AS (
  SELECT group_name FROM credits.model_access_groups WHERE group_name = ANY(%(access_groups)s)
   ORDER BY group_name FOR KEY SHARE
)
INSERT INTO credits.team_access_groups (team_id, group_name, position)
SELECT %(team_id)s, known.group_name, wanted.position - 1
  FROM known JOIN unnest(%(access_groups)s::text[]) WITH ORDINALITY AS wanted(group_name, position) USING (group_name)
ON CONFLICT (team_id, group_name) DO UPDATE SET position = excluded.position
RETURNING group_name;

-- name: unknown_aliases
-- Which of these names no alias has.
SELECT name FROM unnest(%(model_aliases)s::text[]) AS name
 WHERE NOT EXISTS (SELECT FROM credits.model_aliases a WHERE a.model_alias = name);

-- name: create_key
-- No row when there is no such team.
INSERT INTO credits.virtual_keys (
  key_id, key_hash, key_prefix, team_id, name, expires_at, allowed_aliases, credit_limit, rpm_limit, tpm_limit)
SELECT %(key_id)s, %(key_hash)s, %(key_prefix)s, team_id, %(name)s, %(expires_at)s, %(allowed_aliases)s::text[],
       %(credit_limit)s, %(rpm_limit)s, %(tpm_limit)s
  FROM credits.teams WHERE team_id = %(team_id)s FOR KEY SHARE
RETURNING *;

-- name: keys
-- A page of a team's keys, newest first.
SELECT * FROM credits.virtual_keys
 WHERE team_id = %(team_id)s
   AND (created_at, key_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                               coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
 ORDER BY created_at DESC, key_id DESC LIMIT %(limit)s;

-- name: key
SELECT * FROM credits.virtual_keys WHERE key_id = %(key_id)s AND team_id = %(team_id)s;

-- name: lock_key
-- Changes of one key run one after the other.
SELECT * FROM credits.virtual_keys WHERE key_id = %(key_id)s AND team_id = %(team_id)s FOR NO KEY UPDATE;

-- name: update_key
-- Sets the columns that `changes` names, and leaves the others as they are. No row when the team has no such key.
UPDATE credits.virtual_keys k
   SET (name, expires_at, allowed_aliases, credit_limit, rpm_limit, tpm_limit) =
       (SELECT n.name, n.expires_at, n.allowed_aliases, n.credit_limit, n.rpm_limit, n.tpm_limit
          FROM jsonb_populate_record(k, %(changes)s::jsonb) n)
 WHERE k.key_id = %(key_id)s AND k.team_id = %(team_id)s
RETURNING *;

-- name: revoke_key
-- Revoking again keeps the first time. No row when the team has no such key.
UPDATE credits.virtual_keys SET status = 'revoked', revoked_at = coalesce(revoked_at, now())
 WHERE key_id = %(key_id)s AND team_id = %(team_id)s
RETURNING *;

-- name: replace_key
-- End a key that is active and not replaced, at once or after an overlap that does not lengthen its life. No row when it is not,
-- so that of two rotations one wins.
UPDATE credits.virtual_keys
   SET replaced_by = %(replaced_by)s,
       status = CASE WHEN %(overlap_seconds)s::int > 0 THEN status ELSE 'revoked' END,
       revoked_at = CASE WHEN %(overlap_seconds)s::int > 0 THEN NULL ELSE now() END,
       expires_at = CASE WHEN %(overlap_seconds)s::int > 0
                         THEN least(expires_at, now() + make_interval(secs => %(overlap_seconds)s::int)) ELSE expires_at END
 WHERE key_id = %(key_id)s AND team_id = %(team_id)s AND status = 'active' AND replaced_by IS NULL
RETURNING *;

-- name: note_last_uses
-- Waits for nobody: keys that are locked (by a call that begins or ends) are returned, for the next time.
WITH seen AS (
  SELECT * FROM unnest(%(key_ids)s::uuid[], %(used_at)s::timestamptz[]) AS seen(key_id, used_at)
), free AS (
  SELECT key_id, used_at FROM credits.virtual_keys JOIN seen USING (key_id) FOR NO KEY UPDATE OF virtual_keys SKIP LOCKED
), noted AS (
  UPDATE credits.virtual_keys k SET last_used_at = greatest(k.last_used_at, free.used_at)
    FROM free WHERE k.key_id = free.key_id
  RETURNING k.key_id
)
SELECT k.key_id FROM credits.virtual_keys k JOIN seen USING (key_id) WHERE k.key_id NOT IN (SELECT key_id FROM noted);
