"""The web service: one process, one device, one bundle of model/ behind HTTP."""

from model import __version__

__all__ = ["__version__"]
