"""Image files, one module a question: what of a file is needed, what decoding it takes, what its samples mean."""
