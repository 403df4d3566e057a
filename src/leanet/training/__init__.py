"""One training loop, and what the two stages train on which recipe."""
