"""From texts to WordNet synsets, the categories of CatLIP (Mehta et al. 2024, arXiv 2404.15653)."""
