"""A trained model outside the experiment: its folder, its exported files, and what it says about pictures."""
