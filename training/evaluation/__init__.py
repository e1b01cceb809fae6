"""Measuring a CLIP: zero-shot, retrieval, linear probe, few-shot and robustness, on your data or the paper's."""
