"""Color anomaly attention networks: they read the anomaly map and tell the ADN where to look."""
