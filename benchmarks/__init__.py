"""Load on the real service: figures, not tests. Each program here is run by hand."""
