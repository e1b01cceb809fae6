"""Variants of a bundle: other precisions and fused graphs, each measured against the fp32 original."""
