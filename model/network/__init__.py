"""The torch network of CLIP. Nothing outside this package, `model.export` and training may import it."""

from model.network.clip import CLIP

__all__ = ["CLIP"]
