"""Hints name the program that was run, so that they can be pasted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fedsim.cli.surplus import surplus
from fedsim.program import command, command_for_pages


def run_as(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    """As if the user had typed this."""
    monkeypatch.setattr(sys, "argv", [typed[-1]])
    monkeypatch.setattr(sys, "orig_argv", list(typed))


def test_whoever_ran_the_script_is_told_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    run_as(monkeypatch, "python", "../a checkout/run_sim.py")
    assert command("resume", Path("a run")) == "python '../a checkout/run_sim.py' resume 'a run'"
    assert command_for_pages("resume", "RUN") == "python run_sim.py resume RUN"


def test_where_python_is_another_one_the_interpreter_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    run_as(monkeypatch, "python3", "run_sim.py")
    assert command("show") == f"{sys.executable} run_sim.py show"


def test_a_module_is_called_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(sys, "argv", ["/there/run_sim.py"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "run_sim", "show"])
    assert command("show") == "python -m run_sim show"


def test_whoever_ran_the_command_is_told_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/venv/bin/fedsim")
    run_as(monkeypatch, "/venv/bin/python", "/venv/bin/fedsim")
    assert command("show", "x") == "fedsim show x"
    run_as(monkeypatch, "/venv/bin/python", "/other/bin/fedsim")  # which is not on the PATH
    assert command("show", "x") == "/other/bin/fedsim show x"
    assert command_for_pages("show", "x") == "fedsim show x"


def test_from_python_the_command_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run_as(monkeypatch, "python", "-m", "ipykernel_launcher")
    assert command("show", "x") == "fedsim show x"


def test_settings_behind_a_run_are_answered_with_what_to_write() -> None:
    said = surplus("resume", ["client.lr=0.1"])
    assert "a run keeps the settings that it began with" in said
    assert "client.lr=0.1 behind them" in said
    assert "write `--workers 3`" in surplus("resume", ["engine.workers=3"])
    assert "takes no settings" in surplus("presets", ["seed=2"])
    assert "quotes" in surplus("show", ["a", "run"])
