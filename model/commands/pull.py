"""Fetch published models by name."""
