"""Whether every configuration of open_clip is imported exactly: built, saved, imported, and compared."""
