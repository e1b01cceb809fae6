"""Published models by name: what is known of them, where they are, and the way here. Needs no torch."""
