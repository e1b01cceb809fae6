"""How much memory decoding a picture takes at its peak, for the costliest file of each format."""
