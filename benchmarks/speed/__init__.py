"""How fast the service is, beside the bare model and beside other services."""
