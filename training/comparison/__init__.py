"""Several trainings side by side: the same data, samples and schedule, several seeds, one table."""
