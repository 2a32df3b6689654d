"""The typed config tree: a preset, overrides by key, and the identity of a run."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from fedsim.errors import FedsimError
from fedsim.options import Options, short, validated
from fedsim.overrides import parse
from fedsim.references import load as load_reference
from fedsim.registry import Registry, nearest


class ClientOptions(Options):
    """Local training of one user."""

    epochs: int = Field(1, ge=1)
    batch_size: int = Field(16, ge=1, description="sequences")
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

    rounds: int = Field(50, ge=1)
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
    noise_key: str = Field(
        "",
        description="secret of the server's noise; nodes that are not yours can guess an empty one",
    )
    checkpoint_every: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of the running average of iterates that is evaluated"
    )
    timeout_s: float = Field(3600.0, gt=0, description="longest wait for the replies of a round")
    retries: int = Field(1, ge=0, description="times that failed clients are asked again")
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
    trigram: bool = True
    central: bool = True
    central_epochs: int = Field(3, ge=1)
    central_lr: float = Field(0.003, gt=0)
    central_batch_size: int = Field(64, ge=1)


class CanaryOptions(Options):
    """Random sentences planted through synthetic users (Ramaswamy et al. 2020)."""

    users: tuple[PositiveInt, ...] = (1, 4, 16)
    repeats: tuple[PositiveInt, ...] = (1, 10, 50)
    per_cell: int = Field(1, ge=0, description="canaries for each users x repeats; 0 plants none")
    sentences: int = Field(200, ge=1, description="a canary user's sentences in all")
    held_out: int = Field(100, ge=1, description="control canaries that nobody holds")
    references: int = Field(
        1000, ge=1000, description="random sentences that a canary is ranked in"
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
        description="audit users that send random directions as large as the mechanism lets in; "
        "never in a run whose model is given away",
    )


class EngineOptions(Options):
    """Where clients run. Recorded; of it the device and the kernel are the run's identity."""

    name: Literal["pool", "local", "ray", "deploy"] = "pool"
    workers: int = Field(0, ge=0, description="processes; 0 means one a core")
    chunk: int = Field(
        0, ge=0, description="users a message; 0 means many at first, few at last, by their text"
    )
    address: str = Field(
        "", description="of a Ray cluster, else one is started; or the folder of a deployment"
    )
    device: str = "auto"
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


@dataclass(frozen=True)
class Named:
    """A section chosen by name from a registry: the name and its options."""

    name: str
    options: Any


@dataclass(frozen=True)
class ClientConfig:
    """What a client needs to know of a run: the part of the config that messages carry."""

    seed: int
    data: Any
    model: Named
    client: ClientOptions
    canaries: CanaryOptions
    audit: AuditOptions
    federation: FederationOptions
    engine: EngineOptions
    privacy: Named

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, every default written out."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def as_json(self) -> str:
        """`as_dict` as canonical JSON."""
        return json.dumps(self.as_dict(), sort_keys=True)


@dataclass(frozen=True)
class Config(ClientConfig):
    """One run, fully resolved. `as_dict` is the form that files carry."""

    strategy: Named
    optimizer: Named
    server: ServerOptions
    evaluation: EvaluationOptions
    pretrain: Any
    tracking: Any

    def for_clients(self) -> ClientConfig:
        """The part that goes to clients."""
        return ClientConfig(**{f.name: getattr(self, f.name) for f in fields(ClientConfig)})

    def secret(self) -> str:
        """What noise and private cohorts are drawn from beside the seed: another config, another
        draw, and `server.noise_key` is in no message to a client. Where the text lies is not part
        of it."""
        known = self._what_counts()
        recipe = Path(str(known["data"]["name"])).name
        known["data"] = {**known["data"], "path": None, "name": recipe}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def identity(self) -> str:
        """SHA-256 of everything that may change a result: all but who is told of it and the
        engine, and of that the device and the kernel, whose arithmetic has other last bits."""
        from fedsim.device import resolve_device

        identity = self._what_counts()
        device = resolve_device(self.engine.device)
        resolve_kernel = load_reference("fedsim.models.flat:resolve_kernel")
        kernel = self.engine.kernel
        if kernel == "auto":  # else it is known, here or elsewhere
            kernel, _ = resolve_kernel(kernel, self.model.options, device)
        identity |= {"device": device.type, "kernel": kernel}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _what_counts(self) -> dict[str, Any]:
        """All but the engine and the tracking. Of sections that came later only what is not the
        default: runs that were begun before there were such sections keep their identity."""
        tree = {k: v for k, v in self.as_dict().items() if k not in ("engine", "tracking")}
        for name in ("audit", "federation", "pretrain"):
            tree[name] = getattr(self, name).model_dump(mode="json", exclude_defaults=True)
            if not tree[name]:
                del tree[name]
        return tree


def _plain(section: Any) -> Any:
    if isinstance(section, Named):
        return {"name": section.name, **section.options.model_dump(mode="json")}
    return section.model_dump(mode="json") if isinstance(section, Options) else section


def client_config(text: str) -> ClientConfig:
    """The inverse of `ClientConfig.as_json`. Loads nothing of the server."""
    return ClientConfig(**_built(json.loads(text), [f.name for f in fields(ClientConfig)]))


def from_dict(tree: Mapping[str, Any]) -> Config:
    """Validate plain nested values into a `Config`; missing keys take their defaults."""
    sections = ["seed", *NAMED_SECTIONS, *PLAIN_SECTIONS]
    for key in tree:
        if key not in sections:
            raise FedsimError(f"Unknown config section '{key}': {_meant(key, sections)}")
    config = _with_sampler(Config(**_built(_with_implied(tree), sections)))
    _check_together(config)
    return config


def _meant(key: str, sections: list[str]) -> str:
    """A hint for what is no section: the key of that name in one, or the nearest section."""
    plain = {name: load_reference(target) if isinstance(target, str) else target
             for name, target in PLAIN_SECTIONS.items()}  # fmt: skip
    there = [f"'{name}.{key}'" for name, cls in plain.items() if key in cls.model_fields]
    return f"did you mean {' or '.join(there)}?" if there else nearest(key, sections)


def _built(tree: Mapping[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """The named sections of `tree`, validated."""
    seed = tree.get("seed", 1)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FedsimError(f"seed = {short(seed)} is not accepted: it should be a whole number.")
    built: dict[str, Any] = {"seed": seed}
    for section in sections:
        if section not in NAMED_SECTIONS:
            continue
        values = _section(tree, section)
        name = values.pop("name", DEFAULT_NAMES[section])
        if not isinstance(name, str):
            raise FedsimError(f"{section} = {short(name)} is not accepted: it should be a name.")
        registry: Registry[Any] = load_reference(NAMED_SECTIONS[section])
        built[section] = Named(name, validated(_options_of(registry[name]), values, section))
    for section in sections:
        if section in PLAIN_SECTIONS:
            target = PLAIN_SECTIONS[section]
            cls = load_reference(target) if isinstance(target, str) else target
            built[section] = validated(cls, _section(tree, section), section)
    return built


def _options_of(entry: Any) -> Any:
    """A registered thing is its options class, or has one; a strategy without options has none."""
    return entry if isinstance(entry, type) and issubclass(entry, Options) else entry.Options


def _section(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    values = tree.get(section, {})
    for key in values if isinstance(values, Mapping) else ():
        if key in NAMED_SECTIONS:  # no option is called so; the section is meant
            raise FedsimError(f"Unknown key '{section}.{key}': '{key}' is a section: {key}=NAME.")
    if isinstance(values, str) and section in {*NAMED_SECTIONS, "data", "pretrain", "engine"}:
        return {"name": values}
    if not isinstance(values, Mapping):
        raise FedsimError(
            f"{section} = {short(values)} is not accepted: it is a section with keys."
        )
    return dict(values)


def _with_sampler(config: Config) -> Config:
    """Where nobody says which sampler, the best one that the mechanism can be accounted with."""
    samplers = load_reference(NAMED_SECTIONS["privacy"])[config.privacy.name].samplers
    if "sampler" in config.server.model_fields_set or not samplers:
        return config
    return replace(config, server=config.server.model_copy(update={"sampler": samplers[0]}))


def _check_together(config: Config) -> None:
    samplers: Registry[Any] = load_reference("server.sampling:SAMPLERS")
    sampler, name = config.server.sampler, config.privacy.name
    samplers[sampler]
    if config.federation.partition == "iid":
        _check_dealt_out(config)
    if sampler == "groups" and not config.server.groups:
        raise FedsimError("server.sampler = 'groups' needs to know how many: set server.groups.")
    allowed = load_reference(NAMED_SECTIONS["privacy"])[name].samplers
    if allowed and sampler not in allowed:
        raise FedsimError(
            f"privacy = '{name}' cannot be accounted with server.sampler = '{sampler}'; set "
            f"server.sampler={' or '.join(allowed)}."
        )
    _check_audit(config)
    _check_strategy(config)


def _check_strategy(config: Config) -> None:
    chosen, mechanism = config.strategy.name, config.privacy.name
    strategy = load_reference(NAMED_SECTIONS["strategy"])[chosen]
    allowed = strategy.mechanisms
    if allowed is not None and mechanism not in ("none", *allowed):
        another = f", or another privacy of: {', '.join(allowed)}" if allowed else ""
        raise FedsimError(
            f"privacy = '{mechanism}' cannot go with strategy '{chosen}', which "
            f"{strategy.mechanisms_because}; set strategy=fedavg{another}."
        )
    if strategy.one_reply_per_user and config.audit.update_canaries:
        raise FedsimError(
            "audit.update_canaries measures what a sum of updates shows of one user, and strategy "
            f"'{chosen}' makes no such sum; set strategy=fedavg."
        )
    strategy.check(config)


def _check_audit(config: Config) -> None:
    options, evaluated = config.audit, config.evaluation.every
    for name in options.measures:
        if load_reference("fedsim.leakage.measures:MEASURES")[name].trains:
            raise FedsimError(
                f"audit.measures: '{name}' trains runs of its own; take it afterwards with `audit "
                f"RUN --measures {name}`."
            )
    if options.every % evaluated:
        raise FedsimError(
            f"audit.every = {options.every} is no multiple of evaluation.every = {evaluated}, and "
            "audits are taken where the model is evaluated; make it one."
        )


def _check_dealt_out(config: Config) -> None:
    """Raise for what a partition that mixes people's text makes untrue or impossible."""
    mechanism = load_reference(NAMED_SECTIONS["privacy"])[config.privacy.name]
    if config.privacy.name not in ("none", "secagg") and mechanism.unit != "sequence":
        raise FedsimError(
            f"privacy = '{config.privacy.name}' protects what one user contributes, and under "
            "federation.partition = 'iid' a person's sentences are spread over all users; set "
            "federation.partition=user."
        )
    if config.engine.name == "deploy":
        raise FedsimError(
            "federation.partition = 'iid' needs everybody's text in one place, and under engine "
            "'deploy' each node has its own users' only; set federation.partition=user."
        )
    for key in ("set_apart", "update_canaries"):
        if getattr(config.audit, key):
            raise FedsimError(
                f"audit.{key} is about people, and under federation.partition = 'iid' a user's "
                "text is everybody's; set federation.partition=user."
            )


def presets() -> dict[str, str]:
    """The presets that ship: name -> first comment line of the file."""
    out = {}
    for entry in sorted(resources.files("fedsim.presets").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            out[entry.name.removesuffix(".toml")] = entry.read_text().splitlines()[0].lstrip("# ")
    return out


def load(preset: str = "default", overrides: Iterable[str] = ()) -> Config:
    """Resolve a preset (a shipped name or a TOML file) and `section.key=value` overrides.

    Raises FedsimError for an unknown preset, an unknown or effect-less key, or a bad value.
    """
    tree = _read_preset(preset)
    explicit = [parse(text) for text in overrides]
    for section in ("data", "pretrain"):  # your own file instead of the preset's data set
        given = any(path == [section, "path"] for path, _ in explicit)
        if given and isinstance(tree.get(section), dict):
            tree[section].pop("name", None)
    # Names first, since a name clears the section: the order of the keys must not matter.
    names = [override for override in explicit if _is_name(override[0])]
    for path, value in names:
        _override(tree, path, value)
    if any(path[0] == "strategy" for path, _ in names):  # what it implies replaces the preset's
        _imply(tree, given={path[0] for path, _ in names})
    for path, value in (override for override in explicit if not _is_name(override[0])):
        _override(tree, path, value)
    _make_absolute(tree)
    config = from_dict(tree)
    _refuse_without_effect(config, [path for path, _ in explicit])
    return config


def _read_preset(preset: str) -> dict[str, Any]:
    if preset.endswith(".toml"):
        source: Any = Path(preset)
        if not source.is_file():
            raise FedsimError(f"There is no preset file {preset}; check the path.")
    else:
        if preset not in presets():
            raise FedsimError(f"There is no preset '{preset}': {nearest(preset, presets())}")
        source = resources.files("fedsim.presets") / f"{preset}.toml"
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number without end
        raise FedsimError(f"{preset} is not valid TOML: {error}.") from None
    except OSError as error:
        raise FedsimError(f"Cannot read {preset}: {error.strerror}.") from None


def _imply(tree: dict[str, Any], given: set[str]) -> None:
    """Set the names that the strategy implies, unless they were `given` beside it."""
    for key, value in _implied(tree).items():
        if "." not in key and key not in given:
            _override(tree, [key], value)


def _implied(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the strategy of a tree implies."""
    strategies: Registry[Any] = load_reference(NAMED_SECTIONS["strategy"])
    name = _section(tree, "strategy").get("name", DEFAULT_NAMES["strategy"])
    return strategies[name].implies if isinstance(name, str) else {}


def _with_implied(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with what its strategy implies wherever it says nothing itself."""
    out = dict(tree)
    for key, value in _implied(tree).items():
        section, _, option = key.partition(".")
        out[section] = {option or "name": value, **_section(out, section)}
    return out


def _is_name(path: list[str]) -> bool:
    return len(path) == 1 or path[1:] == ["name"]


def _override(tree: dict[str, Any], path: list[str], value: Any) -> None:
    section = path[0]
    if len(path) == 1 and section != "seed":
        path = [section, "name"]
    if len(path) > 2 or (len(path) == 2 and section == "seed"):
        raise FedsimError(f"Unknown key '{'.'.join(path)}'; keys have the form section.key.")
    if len(path) == 1:
        tree[section] = value
        return
    values = tree.setdefault(section, {})
    if isinstance(values, str):
        values = tree[section] = {"name": values}
    if not isinstance(values, dict):
        raise FedsimError(
            f"{section} = {short(values)} is not accepted: it is a section with keys."
        )
    if path[1] == "name" and section in NAMED_SECTIONS and values.get("name") != value:
        # The preset's other keys belonged to the thing that was replaced.
        tree[section] = {"name": value}
    else:
        values[path[1]] = value


def _make_absolute(tree: dict[str, Any]) -> None:
    """A run must find its corpora again from another working directory."""
    for section, key in product(("data", "pretrain"), ("path", "name")):
        values = tree.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, str) and (key == "path" or value.endswith(".toml")):
            try:
                tree[section][key] = str(Path(value).expanduser().resolve())
            except (ValueError, RuntimeError) as error:  # a NUL, a home that nobody has
                raise FedsimError(
                    f"{section}.{key} = {short(value)} is not accepted: {error}."
                ) from None


_OF_SAMPLER = {
    "server.max_cohort": "truncated",
    "server.groups": "groups",
    "server.min_separation": "cyclic",
    "server.max_participations": "cyclic",
}


def _refuse_without_effect(config: Config, explicit: list[list[str]]) -> None:
    """Raise for a key that the user gave and that nothing reads under this config."""
    strategy = load_reference(NAMED_SECTIONS["strategy"])[config.strategy.name]
    mechanism = load_reference(NAMED_SECTIONS["privacy"])[config.privacy.name]
    ignored = dict.fromkeys(mechanism.without_effect, f"privacy '{config.privacy.name}'")
    ignored |= dict.fromkeys(strategy.without_effect, f"strategy '{config.strategy.name}'")
    if not mechanism.draws_in_secret:
        ignored["server.noise_key"] = f"privacy '{config.privacy.name}'"
    for key, sampler in _OF_SAMPLER.items():
        if config.server.sampler != sampler:
            ignored[key] = f"server.sampler '{config.server.sampler}'"
    engine = config.engine
    if engine.name in ("local", "deploy"):
        ignored["engine.workers"] = f"engine '{engine.name}'"
    if strategy.one_reply_per_user:
        by_user = f"strategy '{config.strategy.name}', which asks each user by a message of its own"
        ignored["engine.chunk"] = by_user
    elif engine.name == "deploy":
        ignored["engine.chunk"] = "engine 'deploy', where each node gets one message a round"
    if engine.name in ("local", "pool"):
        ignored["engine.address"] = f"engine '{engine.name}'"
    if not config.evaluation.central:
        central = [n for n in EvaluationOptions.model_fields if n.startswith("central_")]
        ignored |= {f"evaluation.{name}": "evaluation.central = false" for name in central}
    if not config.canaries.per_cell:
        for name in ("users", "repeats", "sentences"):
            ignored[f"canaries.{name}"] = "canaries.per_cell = 0"
    if not config.tracking.to:
        for name in ("project", "group"):
            ignored[f"tracking.{name}"] = "no tracking.to"
    if not config.audit.measures:
        ignored["audit.every"] = "no audit.measures"
    if not config.pretrain.name:
        names = [n for n in type(config.pretrain).model_fields if n not in ("name", "path")]
        ignored |= {f"pretrain.{name}": "pretrain.name = ''" for name in names}
    elif not config.pretrain.canaries:
        ignored["pretrain.repeats"] = "pretrain.canaries = 0"
    for path in explicit:
        key = ".".join(path)
        if key in ignored:
            raise FedsimError(f"{key} has no effect with {ignored[key]}; leave it out.")
