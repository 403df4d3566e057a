"""Executors, one per file; the contract is in leanet.experiment.tasks."""
