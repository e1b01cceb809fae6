"""What `sightword doctor` looks at, a file for each: packages, machine, settings, what computes, and the model."""
