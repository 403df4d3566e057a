"""The sources of images: one file each, which registers itself."""
