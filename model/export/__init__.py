"""From a network to a bundle: graphs, weights, and the comparison of both. Needs torch."""
