"""Preprocessing of pictures, as functions."""

from torchvision.declared import declared as __getattr__  # noqa: F401
