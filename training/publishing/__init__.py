"""A bundle into a running service: swapped in, measured there, and put back if it is worse."""
