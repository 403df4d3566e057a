"""Pure tensor functions on color: no state, no files, nothing of ours imported."""
