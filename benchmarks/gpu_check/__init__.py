"""`make gpu-check`: what is promised of a GPU, held against the one that is here. A file for each section."""
