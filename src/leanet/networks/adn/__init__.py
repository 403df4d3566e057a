"""Anomaly detection networks, which classify the image: one file per family; the contract is in contract.py."""
