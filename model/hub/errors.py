"""How fetching a model fails."""

from __future__ import annotations


class HubError(Exception):
    """A model that cannot be had; the message names it, or the file or setting, and says what to do."""


class TransientError(HubError):
    """What may be over at the next try: a connection that broke, a server that is busy."""


class RefusedError(HubError):
    """A server that does not give what was asked for, now or in several tries."""
