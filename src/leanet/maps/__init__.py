"""The sources of anomaly maps, and the store of a data set's maps."""
