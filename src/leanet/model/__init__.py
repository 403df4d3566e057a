"""A trained model outside the experiment: its folder, its exported files, and its predictions."""
