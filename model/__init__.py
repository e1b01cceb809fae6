"""What a CLIP model is: configuration, tokenizer, preprocessing, bundle, engine; with torch, network and export."""

__version__ = "0.1.0"
