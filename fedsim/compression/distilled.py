"""Distillation (Hinton et al. 2015, arXiv:1503.02531): a student that sees the teacher, no member.

The student learns the teacher's next-word distributions, at temperature 1, on the text of
validation users.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from fedsim.compression.base import COPIES, Compressed, Copy, Original
from fedsim.data.sequences import Sequences
from fedsim.data.store import Corpus
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.models.base import LanguageModel, ModelOptions, build, initialise
from fedsim.models.batch import Batch
from fedsim.models.pooled import GRADIENT_NORM, share_of_rate
from fedsim.seeding import stream, torch_stream
from fedsim.steps import steps

THREADS = 1  # a constant: the last bits of a sum depend on it
WARMUP_STEPS = 20
_WIDTHS = ("embedding", "hidden", "feedforward")


@COPIES.register("distilled")
class Distilled(Copy):
    """A fresh network of the same kind, as wide or narrower."""

    width: float = Field(1.0, gt=0, le=1, description="of the student, as a share of the teacher's")
    steps: int = Field(300, ge=1)
    batch_size: int = Field(32, ge=1, description="sequences a step")
    lr: float = Field(0.01, gt=0)

    def make(self, original: Original) -> Compressed:
        """See `Copy.make`. Raises FedsimError where there is no public text here."""
        teacher = original.model
        options = narrower(original.options, self.width)
        student = build(options, teacher.vocabulary_size, teacher.device)
        initialise(student, options, torch_stream(original.seed, "student"))
        if not len(original.public):
            raise FedsimError(
                "There is no text of validation users here that a student could learn from; leave "
                "'distilled' out of the copies."
            )
        with threads(THREADS):
            self._teach(student, original)
        return Compressed(student.eval(), 4 * student.n_parameters)

    def _teach(self, student: LanguageModel, original: Original) -> None:
        text, seed = original.public, original.seed
        student.dropout_generator = torch_stream(seed, "student-dropout", device=student.device)
        optimizer = torch.optim.AdamW(student.parameters(), lr=self.lr, weight_decay=0.0)
        draw = stream(seed, "distillation")
        student.train()
        for step in steps(range(self.steps), self.steps, original.heard):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * share_of_rate(step, self.steps, WARMUP_STEPS)
            chosen = draw.integers(len(text), size=self.batch_size)
            batch = Batch.of(text.tokens, text.offsets, chosen, student.device)
            optimizer.zero_grad()
            distance(student, original.model, batch).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), GRADIENT_NORM)
            optimizer.step()


def distance(student: LanguageModel, teacher: LanguageModel, batch: Batch) -> Tensor:
    """Cross-entropy of the student under the teacher's distributions, mean nats a prediction.

    It is smallest, the teacher's entropy, where the two are the same.
    """
    wanted = teacher.log_probs(batch).exp_()
    logits = linear(student.hidden(batch), student.output_weight, student.output_bias)
    return cross_entropy(logits, wanted)


def public_text(corpus: Corpus) -> Sequences:
    """Sentences of validation users: of no training user, no test user, and no donor."""
    return corpus.split_sequences("validation")


def narrower(options: ModelOptions, share: float) -> ModelOptions:
    """The same options with all widths times `share`; a multiple of the heads where there are."""
    heads = getattr(options, "heads", 1)
    changed = {}
    for name in _WIDTHS:
        if hasattr(options, name):
            changed[name] = max(1, round(share * getattr(options, name) / heads)) * heads
    return options.model_copy(update=changed)
