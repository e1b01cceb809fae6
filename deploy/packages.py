"""Prints the packages of the environment that runs it, NAME==VERSION a line, for an image that has no pip to ask."""

from importlib.metadata import distributions

found = {(each.metadata["Name"], each.version) for each in distributions()}
# Ours is on no index, and has no advisories there.
print(*(f"{name}=={version}" for name, version in sorted(found) if name != "sightword"), sep="\n")
