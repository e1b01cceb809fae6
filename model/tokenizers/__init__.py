"""Texts to token ids: the tokenizers of CLIP and SigLIP, their vocabularies, cleaning before them. No torch."""
