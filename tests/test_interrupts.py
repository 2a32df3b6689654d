"""Signals that are held back: they act later, once, and on those who did not ignore them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from fedsim.interrupts import held_back


@pytest.fixture(autouse=True)
def _as_the_command_line_sets_them() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt too."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_acts_after_the_block(number: int) -> None:
    done = []

    def save() -> None:
        with held_back():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done
    assert signal.getsignal(number) is signal.default_int_handler


def test_blocks_within_blocks_hold_it_back_to_the_outermost() -> None:
    done = []

    def save() -> None:
        with held_back():
            with held_back():
                signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done


def test_an_error_in_the_block_stays_visible_behind_the_signal() -> None:
    def save() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("the disk is full")

    with pytest.raises(KeyboardInterrupt) as caught:
        save()
    assert str(caught.value.__context__) == "the disk is full"


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_may_save_too() -> None:
    done = []

    def save() -> None:
        with held_back():
            done.append(True)

    thread = threading.Thread(target=save)
    thread.start()
    thread.join()
    assert done
