"""The embedded demo library: the FLAC files in this folder, and the recipe that made them."""
