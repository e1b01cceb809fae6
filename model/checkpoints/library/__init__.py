"""Models whose networks are not ours: built by the library that defines them, with weights that our readers read."""
