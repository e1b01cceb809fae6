"""Declares what open_clip and timm import of torchvision, of which no CPU build is published where tests run.

`tests/shims` goes on PYTHONPATH for a process, and on sys.path while tests import open_clip. Nothing of it computes
anything: every name is a class that has every attribute.
"""

from torchvision.declared import declared as __getattr__  # noqa: F401

__version__ = "0.0.0"
