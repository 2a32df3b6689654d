"""What is offered is what is scored: typing by the offers costs the keystrokes that are counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

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
    assert told == pytest.approx(1 - float(wanted[:2].sum()), abs=1e-6)


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
    keyboard = Keyboard(["<pad>", "<bos>", "<eos>", "<unk>", "bat", "at", "axe", "ask"])
    assert keyboard.offers(torch.zeros(8), "a", 2) == [7, 5]
    assert keyboard.offers(torch.zeros(8), "c") == []
    assert keyboard.beginning_with("").tolist() == [7, 5, 6, 4]


def test_a_diverged_model_offers_nothing() -> None:
    model = build(MODELS["cifg-small"](), 10)
    with torch.no_grad():
        model.output.weight.fill_(math.nan)
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdef"]
    with pytest.raises(FedsimError, match="diverged"):
        suggest(model, words, "a ")
