"""What stands around a route: keys, limits, bodies, answers."""
