"""Bytes to slices: the rules of rows and files, the combined file with its manifest, and shards."""
