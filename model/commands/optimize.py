"""Make variants of a bundle, in other precisions or with fused graphs, each with its own measurements."""
