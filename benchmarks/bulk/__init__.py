"""Embedding in bulk beside what the machine could do, and beside how others do it."""
