"""What can be embedded in bulk: inputs are planned once, as parts, and each part can be read by itself."""

from service.bulk.sources.part import Item, Kind, Part, SourceError, SourceOptions
from service.bulk.sources.planning import plan
from service.bulk.sources.reading import may_pass, read

__all__ = ["Item", "Kind", "Part", "SourceError", "SourceOptions", "may_pass", "plan", "read"]
