"""What runs a bundle: the engine and the providers of onnxruntime. No torch."""
