"""The options of the sections that every config has, and where those of the others are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from fedsim.options import Options


class ClientOptions(Options):
    """Local training of one user."""

    epochs: int = Field(1, ge=1, le=1_000_000)
    batch_size: int = Field(16, ge=1, le=1_000_000, description="sequences")
    lr: float = Field(1.0, gt=0)
    lr_decay: float = Field(
        0.0, ge=0, le=1, description="share of the rounds, the last, over which lr falls to zero"
    )
    max_grad_norm: float = Field(
        1.0, ge=0, description="l2 bound of one step's gradient; 0 is none"
    )
    proximal_mu: float = Field(
        0.0, ge=0, description="FedProx (Li et al. 2020) pull to the global model"
    )

    def lr_in(self, round: int, rounds: int) -> float:
        """The learning rate of a round, counted from 1: constant, then linear to zero."""
        left = (rounds - round + 1) / (self.lr_decay * rounds) if self.lr_decay else 1.0
        return self.lr * min(1.0, left)

    def steps(self, sequences: int) -> int:
        """Local steps that a user with so many sequences makes."""
        return self.epochs * -(-sequences // self.batch_size)


class ServerOptions(Options):
    """The federated loop."""

    rounds: int = Field(50, ge=1, le=10_000_000)
    cohort: int = Field(20, ge=1, description="users a round; the expected number under poisson")
    sampler: str = Field(
        "fixed", description="fixed, poisson, truncated, cyclic, groups; under a mechanism its best"
    )
    max_cohort: int = Field(
        0, ge=0, description="under truncated; 0: what Poisson exceeds once in 10^9 rounds"
    )
    groups: int = Field(0, ge=0, description="under groups, which take turns")
    min_separation: int = Field(
        0, ge=0, description="promised under cyclic: rounds from one participation to the next"
    )
    max_participations: int = Field(0, ge=0, description="promised under cyclic: of one user")
    checkpoint_every: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay a round of the running average of iterates that is evaluated; the "
        "central baseline is averaged over as much text",
    )
    timeout_s: float = Field(
        3600.0, gt=0, le=1e9, description="longest wait for the replies of a round"
    )
    retries: int = Field(1, ge=0, le=1_000, description="times that failed clients are asked again")
    on_failure: Literal["drop", "abort"] = Field(
        "drop", description="what becomes of clients that still fail: left out, or the run stops"
    )
    min_completed: int = Field(
        1, ge=1, description="the run stops at a round that fewer clients complete"
    )


class FederationOptions(Options):
    """Whose text is whose."""

    partition: Literal["user", "iid"] = Field(
        "user",
        description="user: each one's own; iid: all sentences dealt out at random, sizes kept",
    )


class EvaluationOptions(Options):
    """What is measured on held-out users, and against what."""

    every: int = Field(10, ge=1, description="rounds between evaluations on validation users")
    users: int = Field(
        10_000, ge=1, description="held-out users that are scored where there are more"
    )
    trigram: bool = Field(
        True, description="score a trigram beside it, and two keyboards without any context"
    )
    central: bool = Field(True, description="train the same network on pooled text beside it")
    central_epochs: int = Field(3, ge=1, le=1_000_000)
    central_lr: float = Field(0.003, gt=0)
    central_batch_size: int = Field(64, ge=1, le=1_000_000)


class CanaryOptions(Options):
    """Random sentences planted through synthetic users (Ramaswamy et al. 2020)."""

    name: Literal["random", "none"] = Field(
        default="random",
        description="none: no canary, no control, no exposure",
    )
    users: tuple[PositiveInt, ...] = (1, 4)
    repeats: tuple[PositiveInt, ...] = (1, 10, 50)
    per_cell: int = Field(
        5, ge=0, le=100_000, description="canaries for each users x repeats; 0 plants none"
    )
    max_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="canary users among all that train, at most: of a small corpus fewer canaries "
        "are planted, which is said; 1: as many as asked",
    )
    sentences: int = Field(200, ge=1, le=1_000_000, description="a canary user's sentences in all")
    held_out: int = Field(100, ge=1, le=1_000_000, description="control canaries that nobody holds")
    references: int = Field(
        1000, ge=1000, le=1_000_000, description="random sentences that a canary is ranked in"
    )
    prefix_words: int = Field(2, ge=1, le=4, description="words given to greedy extraction")


class AuditOptions(Options):
    """What the run measures of its own leakage, beside the canaries' exposure."""

    measures: tuple[str, ...] = Field((), description="see `audit --list`; measured at the end")
    every: int = Field(0, ge=0, description="rounds from one audit to the next; 0: only at the end")
    set_apart: int = Field(
        0, ge=0, description="training users that never take part: non-members to compare with"
    )
    update_canaries: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="audit users that send random directions as large as the mechanism lets in; "
        "never in a run whose model is given away",
    )


class EngineOptions(Options):
    """Where clients run. Recorded; of it the device and the kernel are the run's identity."""

    name: Literal["pool", "local", "ray", "deploy"] = "pool"
    workers: int = Field(0, ge=0, le=4096, description="processes; 0 means one a core")
    chunk: int = Field(
        0, ge=0, description="users a message; 0 means many at first, few at last, by their text"
    )
    address: str = Field(
        "", description="of a Ray cluster, else one is started; or the folder of a deployment"
    )
    device: str = Field(
        "auto", description="cpu or cuda; auto: cuda where there is a GPU, see docs/engines.md"
    )
    kernel: Literal["auto", "native", "torch"] = Field(
        "auto", description="of local training: compiled C for lstm and cifg on a CPU, or PyTorch"
    )


# Sections whose fields depend on a name, and the registry that knows the names. References, not
# imports: the rooms that register things are built on top of this one.
NAMED_SECTIONS = {
    "model": "fedsim.models:MODELS",
    "strategy": "server.strategies:STRATEGIES",
    "optimizer": "server.optimizers:OPTIMIZERS",
    "privacy": "fedsim.privacy.mechanisms:MECHANISMS",
}
DEFAULT_NAMES = {
    "model": "cifg-small",
    "strategy": "fedavg",
    "optimizer": "sgd",
    "privacy": "none",
}
PLAIN_SECTIONS: dict[str, type[Options] | str] = {
    "data": "fedsim.data.options:DataOptions",
    "pretrain": "fedsim.data.options:PretrainOptions",
    "client": ClientOptions,
    "server": ServerOptions,
    "evaluation": EvaluationOptions,
    "canaries": CanaryOptions,
    "audit": AuditOptions,
    "federation": FederationOptions,
    "engine": EngineOptions,
    "tracking": "fedsim.tracking.options:TrackingOptions",
}
