"""ROUGE by hand."""

from __future__ import annotations

import pytest

from fedsim.leakage.rouge import rouge_l, rouge_n

# "police killed the gunman" against "the gunman killed police", Lin 2004's example of order.
TRUE = (1, 2, 3, 4)
SWAPPED = (3, 4, 2, 1)


def test_order_counts_in_two_and_l_only() -> None:
    assert rouge_n(SWAPPED, TRUE, 1) == 1.0
    assert rouge_n(SWAPPED, TRUE, 2) == pytest.approx(1 / 3)  # of three bigrams, "the gunman"
    assert rouge_l(SWAPPED, TRUE) == 0.5  # "the gunman"


def test_f1_of_sentences_of_other_length() -> None:
    # "police kill the gunman" against the reference: recall 3/4 of L, precision 3/4.
    assert rouge_l((1, 9, 3, 4), TRUE) == pytest.approx(0.75)
    assert rouge_l((1, 2), TRUE) == pytest.approx(2 * 2 / 6)
    assert rouge_n((1, 2), TRUE, 1) == pytest.approx(2 * 2 / 6)
    assert rouge_n((1, 2), TRUE, 2) == pytest.approx(2 * 1 / 4)


def test_repeats_are_clipped() -> None:
    assert rouge_n((1, 1, 1, 1), (1, 2), 1) == pytest.approx(2 * 1 / 6)


@pytest.mark.parametrize(("found", "true", "value"), [((1,), (1,), 1.0), ((1,), (2,), 0.0)])
def test_sentences_without_bigrams(found: tuple[int], true: tuple[int], value: float) -> None:
    assert rouge_n(found, true, 2) == value
    assert rouge_l(found, true) == value


def test_nothing_found() -> None:
    assert rouge_n((), TRUE, 1) == rouge_l((), TRUE) == 0.0
