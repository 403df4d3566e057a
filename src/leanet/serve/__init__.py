"""A model served over HTTP: an API for programs and a page for the browser."""
