"""The recipe that builds the drawings of the training corpus, and the sample shards, from the public registries."""

from training.corpus.recipe import build
from training.corpus.sample_shards import build_sample

__all__ = ["build", "build_sample"]
