"""The fault campaign in its short form: one attempt for each sort of fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
