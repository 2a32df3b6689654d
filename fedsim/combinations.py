"""Which settings of a config go together, and which have an effect at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.references import load as load_reference
from fedsim.registry import Registry
from fedsim.sections import NAMED_SECTIONS, EvaluationOptions

if TYPE_CHECKING:
    from fedsim.config import Config

MOST_CANARY_USERS = 100_000  # whose texts every process makes and keeps
MOST_CANARY_SENTENCES = 20_000_000  # some GB of text, which every process keeps


def check_together(config: Config) -> None:
    """Raise FedsimError for a combination that is impossible, untrue or cannot be accounted."""
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
    _check_canaries(config)
    _check_audit(config)
    _check_strategy(config)


def guarantees(config: Config) -> bool:
    """Whether its mechanism is to guarantee something: it has noise, or a budget for it."""
    options = config.privacy.options
    return bool(getattr(options, "noise_multiplier", 0) or getattr(options, "epsilon", 0))


def check_failures(config: Config) -> None:
    """Raise for a run with a guarantee that one person's failing text could end, or whose dropout
    undoes it.

    Asked of runs that begin: what older ones did stays readable.
    """
    server = config.server
    if not guarantees(config):
        return
    dropout: Any = getattr(config.model.options, "dropout", None)
    if config.privacy.name == "dp-sgd" and dropout:
        raise FedsimError(
            "privacy = 'dp-sgd' cannot go with model.dropout: what is dropped of one sequence "
            "depends on which others are in the batch, so that clipping does not bound what one of "
            "them changes; set model.dropout=0."
        )
    name = f"privacy = '{config.privacy.name}'"
    if server.on_failure == "abort":
        raise FedsimError(
            f"server.on_failure = 'abort' cannot go with {name}: a run that ends where one "
            "person's text fails tells of that person; set server.on_failure=drop."
        )
    if server.min_completed > 1:
        raise FedsimError(
            f"server.min_completed = {server.min_completed} cannot go with {name}: a run that "
            "ends where one person's text fails tells of that person; leave it out, and a round "
            "is made with those who complete it."
        )


def _check_strategy(config: Config) -> None:
    chosen, mechanism = config.strategy.name, config.privacy.name
    strategy = load_reference(NAMED_SECTIONS["strategy"])[chosen]
    allowed = strategy.mechanisms
    if allowed is not None and mechanism not in ("none", *allowed):
        others = " or ".join(dict.fromkeys(("none", *allowed)))
        raise FedsimError(
            f"privacy = '{mechanism}' cannot go with strategy '{chosen}', which "
            f"{strategy.mechanisms_because}; set strategy=fedavg or privacy={others}."
        )
    if strategy.one_reply_per_user and config.audit.update_canaries:
        raise FedsimError(
            "audit.update_canaries measures what a sum of updates shows of one user, and strategy "
            f"'{chosen}' makes no such sum; set strategy=fedavg."
        )
    strategy.check(config)


def _check_canaries(config: Config) -> None:
    planted = config.canaries
    if planted.name == "none":
        if config.pretrain.name and config.pretrain.canaries:
            raise FedsimError(
                "pretrain.canaries are ranked among the references of canaries, and canaries = "
                "'none' has none; set pretrain.canaries=0, or leave canaries=none out."
            )
        return
    holders = sum(planted.users) * len(planted.repeats) * planted.per_cell
    if holders > MOST_CANARY_USERS or holders * planted.sentences > MOST_CANARY_SENTENCES:
        raise FedsimError(
            f"canaries plant {holders:,} users of {planted.sentences:,} sentences each, which is "
            f"more than {MOST_CANARY_USERS:,} users or {MOST_CANARY_SENTENCES:,} sentences; "
            "lower canaries.users, canaries.per_cell or canaries.sentences."
        )


def _check_audit(config: Config) -> None:
    options, evaluated = config.audit, config.evaluation.every
    for name in options.measures:
        if load_reference("fedsim.leakage.measures:MEASURES")[name].trains:
            raise FedsimError(
                f"audit.measures: '{name}' trains runs of its own; take it afterwards with "
                f"`{command('audit', 'RUN', '--measures', name)}`."
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


_OF_SAMPLER = {
    "server.max_cohort": "truncated",
    "server.groups": "groups",
    "server.min_separation": "cyclic",
    "server.max_participations": "cyclic",
}


def refuse_without_effect(config: Config, explicit: list[list[str]]) -> None:
    """Raise for a key that the user gave and that nothing reads under this config."""
    strategy = load_reference(NAMED_SECTIONS["strategy"])[config.strategy.name]
    mechanism = load_reference(NAMED_SECTIONS["privacy"])[config.privacy.name]
    ignored = dict.fromkeys(mechanism.without_effect, f"privacy '{config.privacy.name}'")
    ignored |= dict.fromkeys(strategy.without_effect, f"strategy '{config.strategy.name}'")
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
    if config.canaries.name == "none":
        others = [n for n in type(config.canaries).model_fields if n != "name"]
        ignored |= {f"canaries.{name}": "canaries = none" for name in others}
    elif not config.canaries.per_cell:
        for name in ("users", "repeats", "max_share", "sentences"):
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
        if key == "privacy.epsilon" and not config.privacy.options.epsilon:
            raise FedsimError(
                "privacy.epsilon = 0 would need infinite noise; name a budget above 0, or leave it "
                "out: without noise updates are clipped, and nothing is guaranteed."
            )
