"""The way of a request's items: the door, reading, batches, vectors, scores."""
