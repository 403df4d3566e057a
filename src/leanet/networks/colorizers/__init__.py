"""Colorization networks: from lightness to chrominance."""
