"""What the model card of the bundled checkpoint shows of the run it came from."""
