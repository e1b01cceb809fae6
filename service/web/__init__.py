"""How HTTP comes in and goes out: connections, limits, keys, bodies, answers."""
