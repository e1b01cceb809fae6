"""What is learned from: shards, the pictures in memory, what is said of them, and the batch of each step."""
