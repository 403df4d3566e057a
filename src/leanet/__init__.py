"""leanet: colour anomaly detection with LEA-Net (Katafuchi & Tokunaga, arXiv 2109.05493)."""

__version__ = "0.1.0"
