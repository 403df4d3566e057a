"""The two stages over the folds of a data set, and what they leave on disk."""
