"""Read and write the authors' files, and reproduce their numbers."""
