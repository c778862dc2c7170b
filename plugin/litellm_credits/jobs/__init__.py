"""Jobs: a team's own units of work, which group its calls."""
