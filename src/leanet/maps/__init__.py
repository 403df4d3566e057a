"""What makes an anomaly map of an image, and how the maps of a data set are stored."""
