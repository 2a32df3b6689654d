"""Everything the server carries from round to round, and its form on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedsim.errors import FedsimError
from fedsim.parameters import Layout, Parameters, share_kept
from fedsim.privacy.key_stream import KeyStream
from fedsim.privacy.noise_keys import NoiseKey
from server.optimizers import State


@dataclass(frozen=True)
class ServerState:
    """The state after `round` rounds. Random streams are derived, so none is in here."""

    round: int
    parameters: Parameters
    optimizer: State
    average: Parameters | None  # running average of the iterates, where it is asked for
    participations: np.ndarray  # int32, completed rounds of each user by id
    mechanism: State = field(default_factory=dict)  # clip norm, or what correlated noise remembers
    strategy: State = field(default_factory=dict)  # what a strategy remembers beside the model

    @property
    def released(self) -> Parameters:
        """The model that is evaluated, audited and saved."""
        return self.parameters if self.average is None else self.average

    def stepped(
        self,
        parameters: Parameters,
        optimizer: State,
        mechanism: State,
        completed: list[int],
        decay: float,
    ) -> ServerState:
        """The state one round later. `decay` > 0 averages iterates, see `share_kept`."""
        average = self.average
        if average is not None:
            keep = np.float32(share_kept(decay, self.round))
            average = Parameters(average.layout, keep * average.flat + (1 - keep) * parameters.flat)
        participations = self.participations.copy()
        participations[completed] += 1
        return replace(
            self,
            round=self.round + 1,
            parameters=parameters,
            optimizer=optimizer,
            average=average,
            participations=participations,
            mechanism=mechanism,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for a checkpoint."""
        out = {f"parameters/{name}": view for name, view in self.parameters.items()}
        out |= {f"optimizer/{name}": array for name, array in self.optimizer.items()}
        out |= {f"mechanism/{name}": array for name, array in self.mechanism.items()}
        out |= {f"strategy/{name}": array for name, array in self.strategy.items()}
        if self.average is not None:
            out["average"] = self.average.flat
        return out | {"participations": self.participations}

    def restored(self, round: int, arrays: Mapping[str, np.ndarray]) -> ServerState:
        """What a checkpoint says of the run that began with this state.

        Raises FedsimError where it holds other arrays than such a run has.
        """
        expected = self.arrays()
        for name in sorted({*expected, *arrays}):
            if name not in arrays or name not in expected:
                wrong = "is missing" if name in expected else "belongs to another run"
            elif (arrays[name].shape, arrays[name].dtype) != (
                expected[name].shape,
                expected[name].dtype,
            ):
                wrong = f"should be {expected[name].dtype}{list(expected[name].shape)}"
            else:
                continue
            raise FedsimError(
                f"The checkpoint of round {round} does not fit the run's config: '{name}' {wrong}; "
                "restore it from a copy, or train the run anew."
            )
        return self.from_arrays(round, arrays, self.parameters.layout)

    @classmethod
    def from_arrays(
        cls, round: int, arrays: Mapping[str, np.ndarray], layout: Layout
    ) -> ServerState:
        """The inverse of `arrays`; `layout` gives the parameters' order."""
        named = {name: arrays[f"parameters/{name}"] for name in layout.names}
        optimizer, mechanism = _below("optimizer/", arrays), _below("mechanism/", arrays)
        average = Parameters(layout, arrays["average"]) if "average" in arrays else None
        parameters, participations = Parameters.from_arrays(named), arrays["participations"]
        strategy = _below("strategy/", arrays)
        return cls(round, parameters, optimizer, average, participations, mechanism, strategy)


def sealed(arrays: Mapping[str, np.ndarray], key: NoiseKey, round: int) -> dict[str, np.ndarray]:
    """A checkpoint's arrays, those of the mechanism unreadable without the key; its own inverse.

    What correlated noise remembers is noise: who reads it in a run folder could subtract it.
    """
    out = dict(arrays)
    for name, array in arrays.items():
        if name.startswith("mechanism/") and array.nbytes:
            stream = KeyStream(key.secret, f"checkpoint {name}", round)
            mask = stream.words(-(-array.nbytes // 8)).view(np.uint8)[: array.nbytes]
            seen = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
            out[name] = (seen ^ mask).view(array.dtype).reshape(array.shape)
    return out


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> State:
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
