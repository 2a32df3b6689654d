"""Refuses sockets to anywhere but this machine: put on PYTHONPATH as sitecustomize.py."""

import ipaddress
import socket

_connect = socket.socket.connect


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


def _guarded(self: socket.socket, address: object) -> None:
    if not _is_local(address):
        raise OSError(f"the network is blocked in this check: {address}")
    _connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = _guarded  # type: ignore[method-assign, assignment]
