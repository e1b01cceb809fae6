"""The connection. uvicorn's classes that are not its public ones are extended here, and nowhere else."""
