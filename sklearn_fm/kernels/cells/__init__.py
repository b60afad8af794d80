"""Cells of a table as codes: hash tables, hashes, bins."""
