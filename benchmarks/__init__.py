"""Programs that measure leanet; README.md has their commands and results."""
