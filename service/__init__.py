"""The web service: one process, one device, one bundle of model/ behind HTTP."""
