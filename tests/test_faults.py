"""The fault campaign in its short form: one attempt for each sort of fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_fault_ends_with_the_unbroken_record_or_the_documented_outcome() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--count", "8", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    rows = json.loads(done.stdout)
    assert [row for row in rows if row["problems"]] == []
    assert done.returncode == 0
    assert len({row["kind"] for row in rows}) == 8
    assert {row["outcome"] for row in rows} == {"same bits"}


@pytest.mark.parametrize(
    ("name", "values", "grown"),
    [
        ("main_files", [17 + 2 * (i % 2) for i in range(100)], False),
        ("main_files", [17 + i // 25 for i in range(100)], True),
        ("segments", [1 if i % 7 else 0 for i in range(100)], False),
        ("segments", [i // 50 for i in range(100)], True),
        ("main_rss", [400e6 + 60e3 * i for i in range(100)], False),  # 3 MB in half the rounds
        ("main_rss", [400e6 + 200e3 * i for i in range(100)], True),
        ("main_rss", [400e6 if i < 25 else 900e6 for i in range(100)], False),
    ],
)
def test_the_endurance_run_tells_growth_from_coming_and_going(
    name: str, values: list[float], grown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import endurance

    samples = pd.DataFrame({"round": range(100)} | dict.fromkeys(titles(endurance), 4))
    samples[name] = values
    table = endurance.growth(samples).set_index("what")
    assert table.grown[table.grown].index.tolist() == ([titles(endurance)[name]] if grown else [])


def titles(endurance: ModuleType) -> dict[str, str]:
    """What the table calls each column."""
    memory = {name: f"{title}, MB" for name, title in endurance.MEMORY.items()}
    return memory | endurance.COUNTS
