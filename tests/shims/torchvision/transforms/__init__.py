"""Preprocessing of pictures."""

from torchvision.declared import declared as __getattr__  # noqa: F401
