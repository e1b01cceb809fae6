"""What a CLIP model is: configuration, tokenizer, preprocessing, bundle, engine; with torch, network and export."""

import os

__version__ = "0.1.0"

# Before onnxruntime is imported: from 1.29 on it would keep an identifier of this machine in the home folder, and send
# events to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
