"""What privacy costs a client: a step of DP-SGD beside a plain one, and beside Opacus.

    python benchmarks/private_steps.py                        # all models, a minute or two
    python benchmarks/private_steps.py --models cifg lstm --repeats 20

One thread, CPU milliseconds, the ways in turn over the same four batches of 16 sentences of a
Zipf vocabulary of 10,000 words; medians, and ratios to the plain step of the same kernel. `user`
is user-level clipping: what the norm of a client's update costs beside its training, for the
median client of a federation with 40 sentences.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from clients.private import OpacusModel, PrivateModel
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.models import MODELS, Batch, LanguageModel, build
from fedsim.models.flat import FlatModel, flat_model, resolve_kernel
from fedsim.noise import PrivateStep
from fedsim.seeding import stream

WORDS, BATCH, BATCHES, CLIENT_STEPS = 10_004, 16, 4, 3
CLIP_NORM, NOISE_MULTIPLIER, LR = 0.1, 1.0, 1e-3
CPU = torch.device("cpu")


def text(sentences: int) -> Sequences:
    """Sentences of 1 to 20 words, 9 in the middle, of words with Zipf's frequencies."""
    draw = stream(1, "private steps")
    lengths = np.clip(np.rint(np.exp(draw.normal(np.log(9), 0.6, sentences))), 1, 20).astype(int)
    chances = 1.0 / np.arange(1, WORDS - 3)
    words = draw.choice(WORDS - 4, int(lengths.sum()), p=chances / chances.sum()) + 4
    return Sequences(words.astype(np.int32), offsets_of(lengths))


def model(name: str) -> LanguageModel:
    """A model that is nobody's in particular."""
    made = build(MODELS[name](), WORDS)
    made.initialise(torch.Generator().manual_seed(1))
    return made


def kernel_of(name: str, kernel: str) -> FlatModel:
    """The model's plain and private steps, with its initial values."""
    initial = model(name)
    flat = (
        OpacusModel(build(MODELS[name](), WORDS), CPU)
        if kernel == "opacus"
        else flat_model(build(MODELS[name](), WORDS), CPU, kernel)
    )
    for part, parameter in zip(flat.layout.slices, initial.parameters(), strict=True):
        flat.values[part] = parameter.detach().flatten()
    return flat


def ways(name: str, batches: list[Batch]) -> dict[str, Callable[[], None]]:
    """Each goes once through the batches."""
    kernel, _ = resolve_kernel("auto", MODELS[name](), CPU)
    plain, opacus, key = kernel_of(name, kernel), kernel_of(name, "opacus"), (1, 2)
    start, torch_plain = plain.values.clone(), kernel_of(name, "torch")

    def steps(flat: FlatModel) -> Callable[[], None]:
        def run() -> None:
            for batch in batches:
                flat.sgd_step(batch, LR, 0.0, 0.0, start)

        return run

    def private(flat: PrivateModel, deviation: float) -> Callable[[], None]:
        def run() -> None:
            for step, batch in enumerate(batches):
                how = PrivateStep(CLIP_NORM, LR / BATCH, deviation * CLIP_NORM, key, step)
                flat.private_step(batch, how)

        return run

    def norm() -> None:
        plain.norm(torch.sub(plain.values, start, out=plain.gradients))

    out = {"plain": steps(plain), "plain, torch kernel": steps(torch_plain)}
    if kernel == "native":
        out |= {"clip": private(plain, 0.0), "clip + noise": private(plain, NOISE_MULTIPLIER)}
    return out | {"Opacus, clip + noise": private(opacus, NOISE_MULTIPLIER), "norm": norm}


def measure(name: str, repeats: int) -> None:
    """Print one model's table."""
    sequences = text(BATCH * BATCHES)
    indices = np.arange(len(sequences)).reshape(BATCHES, BATCH)
    batches = [Batch.of(sequences.tokens, sequences.offsets, chosen) for chosen in indices]
    seconds: dict[str, list[float]] = {}
    contenders = ways(name, batches)
    for repeat in range(repeats + 1):
        for way, run in contenders.items():
            began = time.process_time()
            run()
            if repeat:  # the first goes to warming up
                seconds.setdefault(way, []).append(time.process_time() - began)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    norm = medians.pop("norm")
    plain = medians["plain"]
    print(f"\n{name}: {sum(map(len, batches)) // BATCHES} tokens a step")
    for way, total in medians.items():
        print(f"  {way:22} {1e3 * total / BATCHES:8.1f} ms   {total / plain:6.2f} x")
    client = plain / BATCHES * CLIENT_STEPS + norm
    print(f"  {'user-level clipping':22} {1e3 * norm:8.1f} ms   {client / (client - norm):6.3f} x")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["lstm", "cifg", "lstm-small", "cifg-small"])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    torch.set_num_threads(1)
    for name in arguments.models:
        measure(name, arguments.repeats)


if __name__ == "__main__":
    main()
