"""What a call can cost at most, and what it did cost: pure functions of tokens, prices and the team's plan."""
