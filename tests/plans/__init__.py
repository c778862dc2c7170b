"""The plans of hot statements on a filled database."""
