"""The real service with an onnxruntime that says it could use a GPU, where there is none.

python -m tests.service.gpu_service [flags of the service]
"""

from __future__ import annotations

import onnxruntime as ort

from model.runtime import gpu
from service.__main__ import app

available = ort.get_available_providers()
gpu.DRIVER_LIBRARY = "libcuda-that-is-not-there.so.1"
ort.get_available_providers = lambda: ["CUDAExecutionProvider", *available]

if __name__ == "__main__":
    app()
