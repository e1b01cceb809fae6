"""Published models by name: where they are, how they are fetched, and where they are kept. Needs no torch."""
