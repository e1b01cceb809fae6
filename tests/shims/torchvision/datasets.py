"""Data sets."""

from torchvision.declared import declared as __getattr__  # noqa: F401
