"""Data sets to measure on: folders of pictures, CLIP_benchmark's layout, our shards, the published archives."""

from training.evaluation.datasets.finding import Place, find, find_all
from training.evaluation.datasets.split import DataError, Split

__all__ = ["DataError", "Place", "Split", "find", "find_all"]
