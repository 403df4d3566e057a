"""The sources of images, one per file; each registers itself."""
