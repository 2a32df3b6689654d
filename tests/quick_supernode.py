"""Flower's SuperNode that is missed within seconds: its heart beats every 10 s instead of 30."""

from __future__ import annotations

import flwr.common.constant

flwr.common.constant.HEARTBEAT_DEFAULT_INTERVAL = flwr.common.constant.HEARTBEAT_MIN_INTERVAL

if __name__ == "__main__":
    from flwr.supernode.cli import flower_supernode

    flower_supernode()
