"""The training loop, the recipes, and the data and losses of the two stages."""
