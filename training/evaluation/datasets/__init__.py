"""Data sets to measure on: folders of pictures, CLIP_benchmark's layout, our shards, the published archives."""

from training.evaluation.datasets.spec import DatasetSpec, parse_dataset, parse_datasets
from training.evaluation.datasets.split import DataError, Split

__all__ = ["DataError", "DatasetSpec", "Split", "parse_dataset", "parse_datasets"]
