"""Checkpoints of others: read into bundles, and bundles written back. Nothing that a file holds is executed."""
