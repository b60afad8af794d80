"""Encoded rows: in memory, in a folder, in text files."""
