"""The connection: what of uvicorn is extended, here and nowhere else."""
