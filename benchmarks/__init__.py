"""Load on the real service: figures, not tests. Each program here is run by hand."""

import model  # noqa: F401 - before onnxruntime, which would report to its makers
