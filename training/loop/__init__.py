"""How it is learned: losses, optimizer, checkpoints, and the loop around them."""
