"""The typed config of a run: validated from plain values or a preset, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fedsim.combinations import check_failures, check_together, refuse_without_effect
from fedsim.config_tree import preset_with, section_of, with_implied, with_settings
from fedsim.errors import FedsimError
from fedsim.options import Options, short, validated
from fedsim.overrides import Given, pairs
from fedsim.references import load as load_reference
from fedsim.registry import Registry, nearest
from fedsim.sections import (
    DEFAULT_NAMES,
    NAMED_SECTIONS,
    PLAIN_SECTIONS,
    AuditOptions,
    CanaryOptions,
    ClientOptions,
    EngineOptions,
    EvaluationOptions,
    FederationOptions,
    ServerOptions,
)

LARGEST_SEED = 2**63 - 1


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

    def fingerprint(self) -> str:
        """SHA-256 of everything that may change a result, but where the text lies."""
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
        if self.canaries.name == "random":
            tree["canaries"] = {k: v for k, v in tree["canaries"].items() if k != "name"}
        for name in ("audit", "federation", "pretrain"):
            tree[name] = getattr(self, name).model_dump(mode="json", exclude_defaults=True)
            if not tree[name]:
                del tree[name]
        if not tree["data"].get("vocabulary_noise"):  # keys that came later
            later = ("vocabulary_noise", "vocabulary_words", "vocabulary_delta", "vocabulary_seed")
            tree["data"] = {k: v for k, v in tree["data"].items() if k not in later}
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
    config = _with_sampler(Config(**_built(with_implied(tree), sections)))
    check_together(config)
    return config


def load(preset: str = "default", overrides: Given = ()) -> Config:
    """Resolve a preset (a shipped name or a TOML file) and `section.key=value` overrides.

    Raises FedsimError for an unknown preset, an unknown or effect-less key, or a bad value.
    """
    explicit = pairs(overrides)
    tree = preset_with(preset, explicit)
    try:
        config = from_dict(tree)
    except FedsimError as error:
        raise FedsimError(f"{_file_at_fault(preset, str(error))}{error}") from None
    check_failures(config)
    refuse_without_effect(config, [path for path, _ in explicit])
    return config


def changed(config: Config, overrides: Given) -> Config:
    """The config with other settings; raises FedsimError as `load` does."""
    explicit = pairs(overrides)
    out = from_dict(with_settings(config.as_dict(), explicit))
    check_failures(out)
    refuse_without_effect(out, [path for path, _ in explicit])
    return out


def _file_at_fault(preset: str, said: str) -> str:
    """The file of a preset, to go before what is `said` of it without any override too."""
    try:
        if preset.endswith(".toml"):
            from_dict(preset_with(preset, []))
    except FedsimError as error:
        return f"{preset}: " if str(error) == said else ""
    return ""


def _meant(key: str, sections: list[str]) -> str:
    """A hint for what is no section: the key of that name in one, or the nearest section."""
    likeliest = ["client", "optimizer", "server"]
    ordered = sorted(
        [*NAMED_SECTIONS, *PLAIN_SECTIONS],
        key=lambda name: (name == "pretrain", [*likeliest, name].index(name)),
    )
    there = [f"'{name}.{key}'" for name in ordered if key in _keys_of(name)]
    return f"did you mean {' or '.join(there)}?" if there else nearest(key, sections)


def _keys_of(section: str) -> set[str]:
    """The keys that a section may have, whatever is chosen for it."""
    if section in NAMED_SECTIONS:
        registry: Registry[Any] = load_reference(NAMED_SECTIONS[section])
        return {key for name in registry for key in _options_of(registry[name]).model_fields}
    return set(_plain_options(section).model_fields)


def _plain_options(section: str) -> type[Options]:
    target = PLAIN_SECTIONS[section]
    return load_reference(target) if isinstance(target, str) else target


def _built(tree: Mapping[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """The named sections of `tree`, validated."""
    seed = tree.get("seed", 1)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FedsimError(f"seed = {short(seed)} is not accepted: it should be a whole number.")
    if not 0 <= seed <= LARGEST_SEED:
        raise FedsimError(
            f"seed = {short(seed)} is not accepted: it should be at least 0 and at most "
            f"{LARGEST_SEED:,}."
        )
    built: dict[str, Any] = {"seed": seed}
    for section in sections:
        if section not in NAMED_SECTIONS:
            continue
        values = section_of(tree, section)
        name = values.pop("name", DEFAULT_NAMES[section])
        if not isinstance(name, str):
            raise FedsimError(f"{section} = {short(name)} is not accepted: it should be a name.")
        registry: Registry[Any] = load_reference(NAMED_SECTIONS[section])
        _check_owner(section, name, values, registry)
        built[section] = Named(name, validated(_options_of(registry[name]), values, section))
    for section in sections:
        if section in PLAIN_SECTIONS:
            built[section] = validated(_plain_options(section), section_of(tree, section), section)
    return built


def _check_owner(
    section: str, name: str, values: Mapping[str, Any], registry: Registry[Any]
) -> None:
    """Raise for a key that what was chosen for the section has not, and another choice has."""
    for key in values:
        if key in _options_of(registry[name]).model_fields:
            continue
        others = [n for n in registry if key in _options_of(registry[n]).model_fields]
        if not others:
            continue  # a mistyped one
        chosen, advice = getattr(registry[name], "instead", (others[0], ""))
        if not advice or chosen not in others:
            advice = f"{section}={others[0]}"
        raise FedsimError(
            f"Unknown key '{section}.{key}': {section} = '{name}' has none such, "
            f"{' and '.join(filter(None, (', '.join(others[:-1]), others[-1])))} "
            f"{'has' if len(others) == 1 else 'have'}; leave it out, or set {advice}."
        )


def _options_of(entry: Any) -> Any:
    """A registered thing is its options class, or has one; a strategy without options has none."""
    return entry if isinstance(entry, type) and issubclass(entry, Options) else entry.Options


def _with_sampler(config: Config) -> Config:
    """Where nobody says which sampler, the best one that the mechanism can be accounted with."""
    samplers = load_reference(NAMED_SECTIONS["privacy"])[config.privacy.name].samplers
    if "sampler" in config.server.model_fields_set or not samplers:
        return config
    return replace(config, server=config.server.model_copy(update={"sampler": samplers[0]}))
