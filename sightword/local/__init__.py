"""The calls of a client without a service: the one part of this package that imports `model`, and only on `load`."""
