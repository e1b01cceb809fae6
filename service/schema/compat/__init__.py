"""Requests and answers of compatible APIs: those that clients of other services call."""
