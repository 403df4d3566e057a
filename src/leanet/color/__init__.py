"""Pure tensor functions on color: no state, no files, no imports from other rooms."""
