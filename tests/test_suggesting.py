"""What is offered is what is scored: typing by the offers costs the keystrokes that are counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedsim.data.text import Tokenization
from fedsim.data.vocabulary import SPECIALS
from fedsim.errors import FedsimError
from fedsim.evaluation import Keyboard, evaluate_user
from fedsim.federation import open_federation
from fedsim.models import MODELS, build
from fedsim.models.batch import N_SPECIALS, Batch
from fedsim.runs import Run
from fedsim.suggesting import suggest


def test_typing_by_the_offers_takes_the_keystrokes_that_are_counted(finished: Run) -> None:
    model, vocabulary = finished.model(), finished.vocabulary()
    corpus = open_federation(finished.config).corpus
    text = corpus.sequences(int(corpus.split("test")[0]), "all")
    needed = hits = 0
    for sentence in text:
        before = ""
        for word in (vocabulary[i] for i in sentence):
            if word in vocabulary[N_SPECIALS:]:
                shown = [
                    [offer for offer, _ in suggest(model, vocabulary, before + word[:k]).offers]
                    for k in range(len(word))
                ]
                taken = [k for k, offers in enumerate(shown) if word in offers]
                needed += taken[0] + 1 if taken else len(word) + 1
                hits += word == shown[0][0]
            before += f"{word} "
    counts = evaluate_user(model, text.tokens, text.offsets, Keyboard(vocabulary))
    assert counts["keystrokes"] == needed
    assert counts["hits_top1"] == hits


def test_shares_are_the_models_own(finished: Run) -> None:
    model, vocabulary = finished.model(), finished.vocabulary()
    ids = [vocabulary.index("w1"), vocabulary.index("w2")]
    rows = Batch.of(np.array(ids, np.int32), np.array([0, 2]))
    wanted = model.log_probs(rows)[-1].exp()
    found = suggest(model, vocabulary, "W1 w2 ", count=len(vocabulary))
    assert found.context == ("w1", "w2")
    assert dict(found.offers) == pytest.approx(
        {word: float(wanted[i]) for i, word in enumerate(vocabulary) if i >= N_SPECIALS}
    )
    assert (found.end, found.unknown_word) == pytest.approx((float(wanted[2]), float(wanted[3])))
    told = sum(share for _, share in found.offers) + found.end + found.unknown_word
    never = [i for i, word in enumerate(SPECIALS) if word not in ("<eos>", "<unk>")]
    assert told == pytest.approx(1 - float(wanted[never].sum()), abs=1e-6)


def test_the_last_word_without_a_space_is_being_typed(finished: Run) -> None:
    model, vocabulary = finished.model(), finished.vocabulary()
    open_word = suggest(model, vocabulary, "w1 W2", count=99)
    assert (open_word.context, open_word.typed) == (("w1",), "w2")
    assert {word for word, _ in open_word.offers} == {
        word for word in vocabulary if word.startswith("w2")
    }
    everything = suggest(model, vocabulary, "w1 ", count=999)
    assert set(open_word.offers) <= set(everything.offers), "the same shares"
    assert open_word.beginning_so == pytest.approx(sum(share for _, share in open_word.offers))
    assert suggest(model, vocabulary, "w1,").typed == ""
    assert suggest(model, vocabulary, "").context == ()


def test_unknown_words_are_named_once(finished: Run) -> None:
    found = suggest(finished.model(), finished.vocabulary(), "nobody w1 nobody ever")
    assert found.unknown == ("nobody",)
    assert found.typed == "ever"
    assert found.offers == ()
    assert found.beginning_so == 0


def test_equals_are_offered_by_the_alphabet() -> None:
    words = [*SPECIALS, "bat", "at", "axe", "ask"]
    keyboard, scores, first = Keyboard(words), torch.zeros(len(words)), N_SPECIALS
    assert keyboard.offers(scores, "a", 2) == [first + 3, first + 1]
    assert keyboard.offers(scores, "c") == []
    assert keyboard.offers(scores, "<n") == [], "a class is not suggested"
    assert keyboard.beginning_with("").tolist() == [first + 3, first + 1, first + 2, first]


def test_a_diverged_model_offers_nothing() -> None:
    words = [*SPECIALS, *"abcdef"]
    model = build(MODELS["cifg-small"](), len(words))
    with torch.no_grad():
        model.output.weight.fill_(math.nan)
    with pytest.raises(FedsimError, match="diverged"):
        suggest(model, words, "a ")


@pytest.mark.parametrize(
    ("text", "context", "typed"),
    [
        ("w1. w2 ", ["w2"], ""),
        ("w1 w2!", [], ""),
        ("w1 w2! ", [], ""),
        ("w1 at 10:30 ", ["w1", "at", "<number>"], ""),
        ("w1 1234", ["w1"], "1234"),
        ("w1 @ann", ["w1"], "@ann"),
        ("w1 \U0001f600", ["w1", "\U0001f600"], ""),
    ],
)
def test_the_sentence_that_is_typed_is_read_as_in_training(
    finished: Run, text: str, context: list[str], typed: str
) -> None:
    found = suggest(finished.model(), finished.vocabulary(), text)
    assert (list(found.context), found.typed) == (context, typed)


def test_case_is_read_as_in_training(finished: Run) -> None:
    how = Tokenization(case="keep")
    found = suggest(finished.model(), finished.vocabulary(), "W1 w2 ", how=how)
    assert (found.context, found.unknown) == (("W1", "w2"), ("W1",))


def test_a_model_of_an_earlier_version_offers_nothing_wrong(finished: Run) -> None:
    words = finished.vocabulary()
    older = [*words[:4], "i", "you", *words[N_SPECIALS:]]
    with pytest.raises(FedsimError, match=r"earlier version of fedsim .* train it again"):
        suggest(finished.model(), older, "i ")
