"""The option that says what a mechanism's noise is drawn from."""

from __future__ import annotations

from pydantic import Field

from fedsim.options import Options
from fedsim.privacy.noise_keys import Kind


class NoiseOptions(Options):
    """Of every mechanism that draws noise."""

    noise: Kind = Field(
        "fresh",
        description="fresh: from the operating system, no two runs alike; seeded: from config and "
        "text, the same bits again, a simulation that protects nobody",
    )
