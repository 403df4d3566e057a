"""Programs that measure leanet; README.md says how to run each and what it found."""
