"""User-level DP where its formula says what the noise is, and how far one client can move it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.models.base import build
from fedsim.models.cifg import CifgSmallOptions
from fedsim.models.flat import FlatModel
from fedsim.parameters import Layout
from fedsim.privacy.base import MECHANISMS, Mechanism, Setting
from fedsim.privacy.key_stream import KEY_BYTES
from fedsim.seeding import torch_stream
from fedsim.updates import Aggregate, ChunkUpdate, UserResult

WORDS, OPTIONS = 400, CifgSmallOptions(hidden=32, embedding=16)
COHORT, CLIP, NOISE = 10, 0.5, 0.8  # m, C, z
KEY = b"selfcheck".ljust(KEY_BYTES)
ROUNDING = 1e-5  # of the float32 mean, relative


@CHECKS.register("dp noise")
def dp_noise() -> list[Check]:
    """What `dp-fedavg` releases with noise, minus what it releases without."""
    flat = _model()
    updates = _updates(flat, COHORT)
    size = updates.shape[1]
    clean = released(flat, updates, 0.0, 1)
    unit = CLIP * NOISE / COHORT
    noised = [released(flat, updates, NOISE, round) for round in (1, 2)]
    noises = [(mean - clean) / unit for mean in noised]
    within = 5 / math.sqrt(2 * size)
    backwards = released(flat, updates, NOISE, 1, reversed(range(COHORT)))
    moved = float(np.abs(backwards - noised[0]).max())
    together = float(np.corrcoef(noises)[0, 1])
    few = (released(flat, updates[:3], NOISE, 1) - released(flat, updates[:3], 0.0, 1)) / unit
    of_round = "the deviation of noise on the mean is z C / m, round"
    return [
        *(Check(f"{of_round} {round}", float(noise.std()), 1 - within, 1 + within)
          for round, noise in enumerate(noises, 1)),
        Check("and where three of ten came", float(few.std()), 1 - within, 1 + within),
        Check("noise is not the same in two rounds", float(np.mean(noises[0] == noises[1])),
              0, 0.01),
        Check("and does not correlate", together, -5 / size**0.5, 5 / size**0.5),
        Check("the order of clients changes nothing", moved, 0, 0),
    ]  # fmt: skip


@CHECKS.register("sensitivity")
def sensitivity() -> list[Check]:
    """One client in ten sends something else: the mean without noise moves by C / m at most.

    Against a client that sends zero; between two that send anything it is twice that.
    """
    flat = _model()
    updates = _updates(flat, COHORT)
    updates[3] = 0
    without = released(flat, updates, 0.0, 1)
    found = {}
    for name, value in (("1e6", 1e6), ("NaN", math.nan), ("inf", math.inf), ("zero", 0.0)):
        updates[3] = value
        found[name] = _moved(released(flat, updates, 0.0, 1), without)
    updates[3] = 0
    updates[3, 0] = math.nan
    found["one NaN"] = _moved(released(flat, updates, 0.0, 1), without)
    huge, most = found.pop("1e6"), 1 + ROUNDING  # clipped, neither lost nor scaled up
    return [
        Check("a client that sends 1e6 moves the mean by C / m, in C / m", huge,
              1 - ROUNDING, most),
        *(Check(f"a client that sends {name} does not move the mean", moved, 0, 0)
          for name, moved in found.items()),
    ]  # fmt: skip


def released(
    flat: FlatModel, updates: Tensor, noise: float, round: int, order: Iterable[int] = ()
) -> np.ndarray:
    """The mean update of a round, float64 (size,): clients' half, the sum, the server's half."""
    mechanism = _mechanism(noise, updates.shape[1])
    state = mechanism.initial_state(updates.shape[1])
    contribution = mechanism.contribution(
        mechanism.options, {"round": round, **mechanism.work(state)}, updates.shape[1]
    )
    aggregate = Aggregate(Layout(("all",), ((updates.shape[1],),)), contribution)
    for user in order or range(len(updates)):
        total, norm = torch.zeros(updates.shape[1], dtype=torch.int64), flat.norm(updates[user])
        contribution.add(flat, total, updates[user], norm, 1, user)
        norm = norm if math.isfinite(norm) else math.inf  # as clients say it
        aggregate.add(ChunkUpdate(total.numpy(), [UserResult(user, 1, 1, 0.0, norm)]))
    mean = mechanism.release(aggregate, round, state).mean
    assert mean is not None
    return mean.astype(np.float64)


def _moved(mean: np.ndarray, without: np.ndarray) -> float:
    return float(np.linalg.norm(mean - without)) * COHORT / CLIP


def _mechanism(noise: float, size: int) -> Mechanism:
    made = MECHANISMS["dp-fedavg"]
    setting = Setting(
        KEY, 10**6, COHORT, 100, "poisson", 0, 0, 0, 0,
        lambda: size, lambda: 1, lambda rounds: rounds,
    )  # fmt: skip
    options = {"clip_norm": CLIP, "noise_multiplier": noise, "delta": 1e-7}
    return made(made.Options(**options), setting)


def _model() -> FlatModel:
    return FlatModel(build(OPTIONS, WORDS), torch.device("cpu"))


def _updates(flat: FlatModel, clients: int) -> Tensor:
    """Half of them within the clip norm, float32 (clients, size)."""
    draw = torch_stream(0, "selfcheck mechanism updates")
    updates = torch.randn(clients, flat.values.numel(), generator=draw)
    norms = torch.linspace(0.2, 1.8, clients)[:, None] * CLIP
    return updates / torch.linalg.vector_norm(updates, dim=1, keepdim=True) * norms
