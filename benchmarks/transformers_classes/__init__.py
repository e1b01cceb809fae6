"""Whether every dual encoder of transformers is imported exactly: built, saved, imported, and held against itself."""
