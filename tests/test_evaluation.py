"""Recall, perplexity and keystrokes against a per-token simulation in plain Python."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from fedsim import floors
from fedsim.data.sequences import Sequences
from fedsim.data.vocabulary import SPECIALS
from fedsim.evaluation import Keyboard, evaluate_user, latency, summarise
from fedsim.models import MODELS, build
from fedsim.models.batch import EOS, N_SPECIALS, UNK, Batch

WORDS = [*SPECIALS, "the", "they", "them", "then", "there", "i", "in"]
WORDS += ["into", "it", "a", "an", "and", "ant", "z", "zoo", "éa", "én"]
V = len(WORDS)
DEVICE = torch.device("cpu")


class Table:
    """Scores drawn by (input, position), so that a naive oracle can look them up."""

    device = DEVICE

    def __init__(self, levels: int) -> None:
        # Few levels make many ties.
        self.scores = torch.from_numpy(
            np.random.default_rng(levels).integers(0, levels, (V, 8, V)) / levels
        ).log_softmax(-1)

    def log_probs(self, batch: Batch) -> torch.Tensor:
        return self.scores[batch.inputs, batch.position % 8]


def text(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(UNK, V, sum(lengths)).astype(np.int32)
    return tokens, np.concatenate([[0], np.cumsum(lengths)])


def simulate(table: Table, tokens: np.ndarray, offsets: np.ndarray) -> dict[str, float]:
    """Type every sentence character by character, the target last among equal scores."""
    shown = {"keystrokes": 3, "keystrokes_top1": 1, "keystrokes_top5": 5}
    out = dict.fromkeys(
        ("tokens", "nats", "words", "hits_top1", "hits_top3", "keystrokes_base", *shown), 0.0
    )
    for a, b in pairwise(offsets):
        sentence = tokens[a:b].tolist()
        for t, (before, target) in enumerate(zip([1, *sentence], [*sentence, EOS], strict=True)):
            scores = table.scores[before, t % 8].tolist()
            out["tokens"] += 1
            out["nats"] -= scores[target]
            out["words"] += target != EOS
            if target < N_SPECIALS:  # an end, an unknown word, a number: nothing completes it
                continue
            ranked = sorted(range(N_SPECIALS, V), key=lambda w: (-scores[w], w == target))
            out["hits_top1"] += ranked[0] == target
            out["hits_top3"] += target in ranked[:3]
            word = WORDS[target]
            for name, most in shown.items():
                cost = len(word) + 1
                for k in range(len(word)):
                    if target in [w for w in ranked if WORDS[w].startswith(word[:k])][:most]:
                        cost = k + 1
                        break
                out[name] += cost
            out["keystrokes_base"] += len(word) + 1
    return out


@pytest.mark.parametrize("levels", [1, 2, 5, 10_000])
@pytest.mark.parametrize("lengths", [[5, 0, 1, 9, 3], [2], [0], [], [30] * 40, [1000]])
def test_counts_are_those_of_typing_by_hand(levels: int, lengths: list[int]) -> None:
    tokens, offsets = text(lengths)
    table = Table(levels)
    found = evaluate_user(table, tokens, offsets, Keyboard(WORDS))
    expected = simulate(table, tokens, offsets)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-12), key


def test_a_model_that_prefers_nothing_predicts_nothing() -> None:
    tokens, offsets = text([20])
    counts = evaluate_user(Table(1), tokens, offsets, Keyboard(WORDS))
    assert counts["hits_top1"] == counts["hits_top3"] == 0
    assert counts["nats"] == pytest.approx(21 * math.log(V))


def test_a_diverged_model_predicts_nothing() -> None:
    tokens, offsets = text([20])
    table = Table(9)
    table.scores[:] = math.nan
    counts = evaluate_user(table, tokens, offsets, Keyboard(WORDS))
    assert counts["hits_top1"] == counts["hits_top3"] == 0
    # Where at most three words share the prefix all of them are shown, whatever the model.
    typed = simulate(Table(1), tokens, offsets)
    for name in ("keystrokes", "keystrokes_top1", "keystrokes_top5"):
        assert counts[name] == typed[name]
    assert math.isnan(counts["nats"])


def test_keystrokes_of_one_word_worked_by_hand() -> None:
    keyboard = Keyboard(WORDS)
    the, there = WORDS.index("the"), WORDS.index("there")
    scores = torch.zeros(4, V)
    scores[1:, there] = -1.0
    scores[3, the] = 1.0
    # 0, 1: last of the five words with 't', 'th', 'the', alone with 'ther': 4 characters, a tap.
    # 2: better than 'there' only, so the three others with 'the' stay before it: all of it and
    # the space. 3: the best of all words is shown before any character. One suggestion shows 'the'
    # before those that are as likely only when it is alone, five show all words with 't'.
    targets = torch.tensor([there, there, the, the])
    needed, better = keyboard.keystrokes(scores, targets)
    assert needed.tolist() == [[5, 5, 2], [5, 5, 2], [4, 4, 2], [1, 1, 1]]
    assert better.tolist() == [V - N_SPECIALS - 1, V - N_SPECIALS - 1, V - N_SPECIALS - 2, 0]


def test_a_keyboard_is_as_wide_as_its_longest_word_in_int32() -> None:
    keyboard = Keyboard(WORDS)
    longest = max(len(word) for word in WORDS[N_SPECIALS:])
    assert keyboard.first.shape == keyboard.last.shape == (V, longest)
    for array in (keyboard.rank, keyboard.lengths, keyboard.first, keyboard.last):
        assert array.dtype == torch.int32


def test_merging_counts_is_adding_them() -> None:
    table, keyboard = Table(7), Keyboard(WORDS)
    tokens, offsets = text([4, 7, 2, 5])
    whole = evaluate_user(table, tokens, offsets, keyboard)
    parts = [
        evaluate_user(table, tokens[a:b], offsets[i:j] - a, keyboard)
        for i, j, a, b in ((0, 3, 0, 11), (2, 5, 11, 18))
    ]
    for key in whole:
        assert whole[key] == pytest.approx(parts[0][key] + parts[1][key], rel=1e-12)


def test_summary_of_a_small_table_by_hand() -> None:
    n = 20
    counts = pd.DataFrame(
        {
            "user": range(100, 100 + n + 1),
            "tokens": [110.0] * n + [3.0],
            "nats": [110 * math.log(2.0)] * n + [3 * math.log(2.0)],
            "words": [100.0] * n + [0.0],
            "hits_top1": [*range(n), 0.0],
            "hits_top3": [2.0 * i for i in range(n)] + [0.0],
            "keystrokes_base": [500.0] * n + [0.0],
            "keystrokes": [400.0] * n + [0.0],
            "keystrokes_top1": [450.0] * n + [0.0],
            "keystrokes_top5": [350.0] * n + [0.0],
        }
    ).sample(frac=1, random_state=0)
    out = summarise(counts)
    assert (out["users"], out["words"], out["tokens"]) == (20, 2000, 2203)
    assert out["top1_recall"] == pytest.approx(0.095)
    assert out["top3_recall"] == pytest.approx(0.19)
    assert out["perplexity"] == pytest.approx(2.0)
    assert out["keystroke_savings"] == pytest.approx(0.2)
    assert out["keystroke_savings_top1"] == pytest.approx(0.1)
    assert out["keystroke_savings_top5"] == pytest.approx(0.3)
    assert out["top1_recall_worst_tenth"] == pytest.approx(0.005)
    assert out["top3_recall_worst_tenth"] == pytest.approx(0.01)
    np.testing.assert_allclose(out["top1_recall_deciles"], np.arange(1, 10) * 0.019)
    assert math.isnan(summarise(counts[counts["words"] == 0])["top1_recall"])


class Constant:
    """The same scores whatever came before."""

    device = DEVICE

    def __init__(self, log_probs: np.ndarray) -> None:
        self.row = torch.from_numpy(log_probs)

    def log_probs(self, batch: Batch) -> torch.Tensor:
        return self.row.expand(len(batch), -1)


@pytest.mark.parametrize("name", floors.FLOORS)
def test_floors_are_what_the_same_scores_give_word_by_word(name: str) -> None:
    tokens, offsets = text([9, 4, 1, 30, 0, 2], seed=3)
    log_probs = floors.FLOORS[name](Sequences(tokens[:14], np.array([0, 9, 13, 14])), V)
    assert np.exp(log_probs).sum() == pytest.approx(1)
    keyboard = Keyboard(WORDS)
    users = [Sequences(tokens[:13], offsets[:3]), Sequences(tokens[13:], offsets[2:] - 13)]
    found = floors.evaluate(log_probs, users, keyboard)
    for counts, user in zip(found, users, strict=True):
        expected = evaluate_user(Constant(log_probs), user.tokens, user.offsets, keyboard)
        assert counts == pytest.approx(expected, rel=1e-12)


def test_unigrams_offer_what_was_typed_most_often() -> None:
    the, zoo, it = (WORDS.index(w) for w in ("the", "zoo", "it"))
    text = Sequences(np.array([zoo, zoo, zoo, the, the, it], np.int32), np.array([0, 4, 6]))
    typed = Sequences(np.array([zoo, the, it], np.int32), np.array([0, 3]))
    (counts,) = floors.evaluate(floors.unigram(text, V), [typed], Keyboard(WORDS))
    assert (counts["hits_top1"], counts["hits_top3"], counts["words"]) == (1, 3, 3)
    assert counts["keystrokes"] == 3
    # With one suggestion: 'zoo' at once, 'the' after 't', 'it' after 'i'.
    assert counts["keystrokes_top1"] == 1 + 2 + 2
    assert counts["tokens"] == 4
    each = V - 2  # counted once more
    assert counts["nats"] == pytest.approx(4 * math.log(8 + each) - math.log(4 * 3 * 2 * 3))


def test_latency_restores_the_threads_and_is_ordered() -> None:
    model = build(MODELS["cifg-small"](), 50)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = latency(model, steps=30)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert 0 < found["p50_ms"] <= found["p95_ms"]
