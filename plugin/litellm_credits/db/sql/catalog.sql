-- Model aliases and access groups.

-- name: active_aliases
SELECT model_alias, provider, actual_model, pricing_input, pricing_output, pricing_rates, max_output_tokens
  FROM credits.model_aliases WHERE status = 'active';

-- name: active_groups
-- Each active group with its active aliases, in the group's order of preference.
SELECT g.group_name,
       ARRAY(SELECT m.model_alias::text
               FROM credits.model_alias_access_groups m JOIN credits.model_aliases a USING (model_alias)
              WHERE m.group_name = g.group_name AND a.status = 'active'
              ORDER BY m.position, m.model_alias) AS aliases
  FROM credits.model_access_groups g WHERE g.status = 'active';

-- name: create_alias
-- No row when the name is taken.
INSERT INTO credits.model_aliases (
  model_alias, display_name, provider, actual_model, description, pricing_input, pricing_output, pricing_rates,
  max_output_tokens)
VALUES (%(model_alias)s, %(display_name)s, %(provider)s, %(actual_model)s, %(description)s,
        %(pricing_input)s, %(pricing_output)s, %(pricing_rates)s::jsonb, %(max_output_tokens)s)
ON CONFLICT DO NOTHING RETURNING model_alias;

-- name: update_alias
-- Sets the columns that `changes` names, and leaves the others as they are.
UPDATE credits.model_aliases a
   SET (display_name, provider, actual_model, description, pricing_input, pricing_output, pricing_rates,
        max_output_tokens, status) =
       (SELECT n.display_name, n.provider, n.actual_model, n.description, n.pricing_input, n.pricing_output,
               coalesce(n.pricing_rates, '{}'), n.max_output_tokens, n.status
          FROM jsonb_populate_record(a, %(changes)s::jsonb) n),
       updated_at = now()
 WHERE a.model_alias = %(model_alias)s
RETURNING a.model_alias;

-- name: delete_alias
DELETE FROM credits.model_aliases WHERE model_alias = %(model_alias)s RETURNING model_alias;

-- name: alias_view
SELECT a.*, ARRAY(SELECT m.group_name::text FROM credits.model_alias_access_groups m
                   WHERE m.model_alias = a.model_alias ORDER BY m.group_name) AS access_groups
  FROM credits.model_aliases a WHERE a.model_alias = %(model_alias)s;

-- name: alias_views
SELECT a.*, ARRAY(SELECT m.group_name::text FROM credits.model_alias_access_groups m
                   WHERE m.model_alias = a.model_alias ORDER BY m.group_name) AS access_groups
  FROM credits.model_aliases a WHERE a.model_alias > %(after)s ORDER BY a.model_alias LIMIT %(limit)s;

-- name: keep_groups
-- Those of the groups that exist; nobody deletes one of them before this transaction ends.
SELECT group_name AS name FROM credits.model_access_groups WHERE group_name = ANY(%(names)s)
 ORDER BY group_name FOR KEY SHARE;

-- name: keep_aliases
-- Those of the aliases that exist; nobody deletes one of them before this transaction ends.
SELECT model_alias AS name FROM credits.model_aliases WHERE model_alias = ANY(%(names)s)
 ORDER BY model_alias FOR KEY SHARE;

-- name: leave_other_groups
DELETE FROM credits.model_alias_access_groups
 WHERE model_alias = %(model_alias)s AND NOT group_name = ANY(%(access_groups)s);

-- name: join_groups
-- The alias becomes the last of each group that it is not in yet.
INSERT INTO credits.model_alias_access_groups (group_name, model_alias, position)
SELECT g.group_name, %(model_alias)s,
       coalesce((SELECT max(m.position) + 1 FROM credits.model_alias_access_groups m WHERE m.group_name = g.group_name), 0)
  FROM credits.model_access_groups g WHERE g.group_name = ANY(%(access_groups)s)
ON CONFLICT DO NOTHING;

-- name: create_group
-- No row when the name is taken.
INSERT INTO credits.model_access_groups (group_name, display_name, description)
VALUES (%(group_name)s, %(display_name)s, %(description)s)
ON CONFLICT DO NOTHING RETURNING group_name;

-- name: update_group
-- Sets the columns that `changes` names, and leaves the others as they are. Changes of one group run one after the other.
UPDATE credits.model_access_groups g
   SET (display_name, description, status) =
       (SELECT n.display_name, n.description, n.status FROM jsonb_populate_record(g, %(changes)s::jsonb) n),
       updated_at = now()
 WHERE g.group_name = %(group_name)s
RETURNING g.group_name;

-- name: clear_group
DELETE FROM credits.model_alias_access_groups WHERE group_name = %(group_name)s;

-- name: fill_group
-- The aliases, in this order.
INSERT INTO credits.model_alias_access_groups (group_name, model_alias, position)
SELECT %(group_name)s, wanted.model_alias, wanted.position - 1
  FROM unnest(%(model_aliases)s::text[]) WITH ORDINALITY AS wanted(model_alias, position);

-- name: lock_group
-- Nobody gives the group to a team before this transaction ends.
SELECT group_name FROM credits.model_access_groups WHERE group_name = %(group_name)s FOR UPDATE;

-- name: group_users
-- The first teams that have the group.
SELECT team_id FROM credits.team_access_groups WHERE group_name = %(group_name)s ORDER BY team_id LIMIT 10;

-- name: delete_group
DELETE FROM credits.model_access_groups WHERE group_name = %(group_name)s;

-- name: group_views
-- A page of the groups, each with its aliases in order.
SELECT g.*,
       coalesce((SELECT jsonb_agg(jsonb_build_object('model_alias', a.model_alias, 'display_name', a.display_name,
                                                     'provider', a.provider, 'actual_model', a.actual_model)
                                  ORDER BY m.position, m.model_alias)
                   FROM credits.model_alias_access_groups m JOIN credits.model_aliases a USING (model_alias)
                  WHERE m.group_name = g.group_name), '[]') AS model_aliases
  FROM credits.model_access_groups g
 WHERE g.group_name > %(after)s
 ORDER BY g.group_name LIMIT %(limit)s;

-- name: group_view
SELECT g.*,
       coalesce((SELECT jsonb_agg(jsonb_build_object('model_alias', a.model_alias, 'display_name', a.display_name,
                                                     'provider', a.provider, 'actual_model', a.actual_model)
                                  ORDER BY m.position, m.model_alias)
                   FROM credits.model_alias_access_groups m JOIN credits.model_aliases a USING (model_alias)
                  WHERE m.group_name = g.group_name), '[]') AS model_aliases
  FROM credits.model_access_groups g
 WHERE g.group_name = %(group_name)s;
