"""Data sets: find, decode and cache images, and split them into folds."""
