"""Model aliases and access groups: which names a team may call, and what they stand for."""
