"""The authors' files and numbers, read and written."""
