"""Batch norms that are not trained."""

from torchvision.declared import declared as __getattr__  # noqa: F401
