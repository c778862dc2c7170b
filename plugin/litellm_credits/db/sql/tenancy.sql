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
