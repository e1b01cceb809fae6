"""The sockets that the service listens on, opened before anything else so that a taken port ends the start at once."""

from __future__ import annotations

import errno
import socket

from service.settings import PREFIX

BACKLOG = 2048
LOCAL = "127.0.0.1 for this machine only, or 0.0.0.0 for every network it is in"


class BindingError(Exception):
    """Nothing can listen there; the message says what to change."""


def bind(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of `host`, listening; of port 0, a free one. Raises BindingError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BindingError(_not_an_address(host)) from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_listen(family, address))
    except OSError as error:
        for each in sockets:
            each.close()
        raise BindingError(_describe(error, host, port)) from None
    return sockets


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _describe(error: OSError, host: str, port: int) -> str:
    other = f"choose another with --port or {PREFIX}PORT"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another program: end that one, or {other} (0 picks a free one)"
        case errno.EACCES | errno.EPERM:
            return f"port {port} of {host} may not be opened by this user: {other}, from 1024 up"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return _not_an_address(host)
        case _:
            return f"port {port} of {host} cannot be opened: {error.strerror}"


def _not_an_address(host: str) -> str:
    return f"{host!r} is no address of this machine: set --host or {PREFIX}HOST to one that is, such as {LOCAL}"
