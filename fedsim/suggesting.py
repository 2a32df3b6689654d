"""What the keyboard that is scored would offer for a text: completions, or the next word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.data.text import Tokenization, sentences
from fedsim.data.vocabulary import SPECIALS, specials_of
from fedsim.errors import FedsimError
from fedsim.evaluation import SUGGESTIONS, Keyboard
from fedsim.models.base import LanguageModel
from fedsim.models.batch import EOS, UNK, Batch


@dataclass(frozen=True)
class Suggestions:
    """What is offered, likeliest first, and what the model says beside it.

    Probabilities are the model's own for the next token after `context`, of all tokens: they are
    not made to sum to one over what is offered.

    context: the words before, as the model reads them; unknown: those of them that it does not
    know. typed: the letters of a word that is being typed, "" where the next word is asked for.
    offers: (word, probability). beginning_so: of all words that begin with `typed`; end: that the
    sentence ends here; unknown_word: of all words that are not in the vocabulary.
    """

    context: tuple[str, ...]
    unknown: tuple[str, ...]
    typed: str
    offers: tuple[tuple[str, float], ...]
    beginning_so: float
    end: float
    unknown_word: float


def openings(
    model: LanguageModel, vocabulary: Sequence[str], how: Tokenization | None = None
) -> Iterator[tuple[str, Suggestions]]:
    """What is offered before anything is typed, after each word that is offered then, and after
    one letter more: beginnings in the language of the corpus that are nobody's text.

    Nothing for a model that has diverged.
    """
    try:
        first = suggest(model, vocabulary, "", how=how)
    except FedsimError:
        return
    yield "", first
    for word, _ in first.offers:
        text = f"{word} "
        found = suggest(model, vocabulary, text, how=how)
        if found.context != (word,):
            continue  # a class of tokens, which nobody types as it is called
        yield text, found
        letter = found.offers[-1][0][0] if found.offers else ""
        if letter.isalpha():
            yield text + letter, suggest(model, vocabulary, text + letter, how=how)


def suggest(
    model: LanguageModel,
    vocabulary: Sequence[str],
    text: str,
    count: int = SUGGESTIONS,
    how: Tokenization | None = None,
) -> Suggestions:
    """What is shown above the keys after `text`, as in `fedsim.evaluation`.

    vocabulary: the words by id, special ones first. The last word of a text without a space behind
    it is one that is being typed; the context is that of its sentence. how: how the text that the
    model was trained on was cut. Raises FedsimError for a model that has diverged, or that was
    trained on text as earlier versions cut it.
    """
    if specials_of(vocabulary) != len(SPECIALS):
        raise FedsimError(
            "The model was trained on text that an earlier version of fedsim cut into other words: "
            "train it again, or use that version."
        )
    context, typed = _read(text, how)
    ids = {word: index for index, word in enumerate(vocabulary)}
    read = np.array([ids.get(word, UNK) for word in context], np.int32)
    scores = model.log_probs(Batch.of(read, np.array([0, len(read)]), device=model.device))[-1]
    if not bool(scores.isfinite().any()):
        raise FedsimError("The model has diverged: it gives no probabilities, so nothing to offer.")
    keyboard = Keyboard(vocabulary, model.device)
    shares = scores.double().exp()
    found = keyboard.offers(scores, typed, count)
    return Suggestions(
        context=tuple(context),
        unknown=tuple(word for word in dict.fromkeys(context) if word not in ids),
        typed=typed,
        offers=tuple((vocabulary[i], float(shares[i])) for i in found),
        beginning_so=float(shares[keyboard.beginning_with(typed)].sum()),
        end=float(shares[EOS]),
        unknown_word=float(shares[UNK]),
    )


def _read(text: str, how: Tokenization | None) -> tuple[list[str], str]:
    """The words of the sentence that is being typed, and what there is of its last one."""
    opened = sentences(f"{text}q", how)[-1:]  # a letter more, which shows whether a word is open
    if opened == sentences(f"{text}j", how)[-1:]:
        if not opened or opened[0][-1] not in SPECIALS:  # whatever is typed, it is dropped
            raise FedsimError("What is being typed is too long for a word; shorten it.")
        return opened[0][:-1], text.split()[-1]  # an address or a number, as it stands
    *context, last = opened[0]
    return context, last[:-1]
