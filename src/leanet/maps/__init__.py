"""Map sources, and the store of a data set's anomaly maps."""
