"""Publish a bundle into a running service: swapped in, measured there, and rolled back if it is worse."""
