-- Organizations, teams and keys.

-- name: principal
-- Everything that the proxy must know of a key, in one read.
SELECT k.key_id, k.status AS key_status, k.expires_at, t.team_id, t.organization_id, t.plan,
       t.status <> 'active' OR o.status <> 'active' AS suspended,
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

-- name: lock_organization
-- Nobody adds a team to the organization before this transaction ends.
SELECT organization_id FROM credits.organizations WHERE organization_id = %(organization_id)s FOR UPDATE;

-- name: delete_organization
DELETE FROM credits.organizations WHERE organization_id = %(organization_id)s;

-- name: create_team
-- No row when the id is taken.
INSERT INTO credits.teams (team_id, organization_id, team_alias, metadata, plan)
VALUES (%(team_id)s, %(organization_id)s, %(team_alias)s, %(metadata)s::jsonb, %(plan)s::jsonb)
ON CONFLICT DO NOTHING RETURNING team_id;

-- name: team_exists
SELECT team_id FROM credits.teams WHERE team_id = %(team_id)s;

-- name: lock_team
-- Changes of one team run one after the other.
SELECT plan FROM credits.teams WHERE team_id = %(team_id)s FOR NO KEY UPDATE;

-- name: update_team
-- Sets the columns that `changes` names, and leaves the others as they are.
UPDATE credits.teams t
   SET (team_alias, metadata, plan, status) =
       (SELECT n.team_alias, n.metadata, n.plan, n.status FROM jsonb_populate_record(t, %(changes)s::jsonb) n),
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
SELECT t.team_id, t.organization_id, t.team_alias, t.status, t.metadata, t.plan,
       c.credits_allocated, c.credits_used, c.credits_held, c.credits_remaining,
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

-- name: clear_access_groups
DELETE FROM credits.team_access_groups WHERE team_id = %(team_id)s;

-- name: assign_access_groups
-- Returns the groups that exist; nobody deletes one of them before this transaction ends.
WITH known AS (
  SELECT group_name FROM credits.model_access_groups WHERE group_name = ANY(%(access_groups)s)
   ORDER BY group_name FOR KEY SHARE
)
INSERT INTO credits.team_access_groups (team_id, group_name, position)
SELECT %(team_id)s, known.group_name, wanted.position - 1
  FROM known JOIN unnest(%(access_groups)s::text[]) WITH ORDINALITY AS wanted(group_name, position) USING (group_name)
RETURNING group_name;

-- name: create_key
-- No row when there is no such team.
INSERT INTO credits.virtual_keys (key_hash, key_prefix, team_id, name, expires_at)
SELECT %(key_hash)s, %(key_prefix)s, team_id, %(name)s, %(expires_at)s
  FROM credits.teams WHERE team_id = %(team_id)s FOR KEY SHARE
RETURNING *;

-- name: keys
-- A page of a team's keys, newest first.
SELECT * FROM credits.virtual_keys
 WHERE team_id = %(team_id)s
   AND (created_at, key_id) < (coalesce(%(before_time)s::timestamptz, 'infinity'),
                               coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
 ORDER BY created_at DESC, key_id DESC LIMIT %(limit)s;

-- name: revoke_key
-- Revoking again keeps the first time. No row when the team has no such key.
UPDATE credits.virtual_keys SET status = 'revoked', revoked_at = coalesce(revoked_at, now())
 WHERE key_id = %(key_id)s AND team_id = %(team_id)s
RETURNING *;

-- name: retire_key
-- Revoke a key that is still active; no row when it is not, so that of two rotations one wins.
UPDATE credits.virtual_keys SET status = 'revoked', revoked_at = now()
 WHERE key_id = %(key_id)s AND team_id = %(team_id)s AND status = 'active'
RETURNING *;
