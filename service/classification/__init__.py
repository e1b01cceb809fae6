"""Zero-shot classification: class vectors, scores, and the label sets that clients store."""
