"""Configs as earlier versions wrote them, read as those of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys that are gone: section -> key -> what to do instead.
RETIRED = {
    "server": {
        "noise_key": "is no key any more: under privacy.noise=fresh, the default, the noise is "
        "drawn from the operating system, and no key is ever given, sent or written down"
    }
}


def current(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The plain tree of a recorded config without the keys that are gone.

    Noise of runs that do not say what it was drawn from was drawn from the seed, and canaries
    were planted as asked.
    """
    out = dict(tree)
    for section, keys in RETIRED.items():
        if isinstance(out.get(section), Mapping):
            out[section] = {k: v for k, v in out[section].items() if k not in keys}
    privacy = out.get("privacy")
    if isinstance(privacy, Mapping) and "noise_multiplier" in privacy and "noise" not in privacy:
        out["privacy"] = {**privacy, "noise": "seeded"}
    canaries = out.get("canaries")
    if isinstance(canaries, Mapping) and "max_share" not in canaries:
        out["canaries"] = {**canaries, "max_share": 1.0}  # there was no limit
    return out
