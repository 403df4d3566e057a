"""Anomaly detection networks: they classify the image. One file a family; the contract is in contract.py."""
