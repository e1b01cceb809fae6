"""python -m service: serve a bundle over HTTP."""

import gc

# What is imported makes hundreds of thousands of objects, all of which stay: looking for garbage among them, time and
# again, was a fifth of a start. `service.memory.freeze_garbage_collector` turns the collector on.
if __name__ == "__main__":
    gc.disable()

from service.shadowed import refuse_shadowed

refuse_shadowed("model")

from model.requirements import needs  # noqa: E402

with needs("cpu"):
    from service.command import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
