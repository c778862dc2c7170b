-- Model aliases and access groups.

-- name: active_aliases
SELECT model_alias, provider, actual_model, pricing_input, pricing_output, max_output_tokens
  FROM credits.model_aliases WHERE status = 'active';

-- name: active_groups
-- Each active group with its active aliases, in the group's order of preference.
SELECT g.group_name,
       ARRAY(SELECT m.model_alias::text
               FROM credits.model_alias_access_groups m JOIN credits.model_aliases a USING (model_alias)
              WHERE m.group_name = g.group_name AND a.status = 'active'
              ORDER BY m.position, m.model_alias) AS aliases
  FROM credits.model_access_groups g WHERE g.status = 'active';
