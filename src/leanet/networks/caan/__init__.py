"""Color anomaly attention networks, which read the anomaly map and guide the ADN."""
