"""Pure tensor functions on colour: no state, no files, nothing of ours imported."""
