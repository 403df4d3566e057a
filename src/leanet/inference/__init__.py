"""A trained model outside the experiment that made it."""
