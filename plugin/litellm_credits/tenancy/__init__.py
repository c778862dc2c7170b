"""Organizations, teams and their virtual keys: who is calling, and may they."""
