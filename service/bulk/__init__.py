"""Vectors of many files: `python -m service bulk`. A job is parts, each read, embedded and written, or not at all."""
