"""One request's items to vectors: reading, the cache, decoding, batches."""
