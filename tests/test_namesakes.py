"""What else Python may find by the names of our packages: the checkout itself, and strangers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("__init__.py", "run_sim.py", "clients", "datasets", "fedsim", "server")
LOOK = """
import fedsim, clients, server, fedsim.errors
from fedsim.errors import FedsimError
print(fedsim.__file__, clients.__file__, server.__file__, sep="\\n")
print(fedsim.load_config("default", "server.rounds=3").server.rounds)
print(FedsimError is fedsim.FedsimError)
"""


def python(code: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Python in a folder, with PYTHONPATH set to `path`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**environment, **({"PYTHONPATH": path} if path else {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """A folder with a checkout that is called fedsim."""
    (tmp_path / "above" / "fedsim").mkdir(parents=True)
    for name in CODE:
        (tmp_path / "above" / "fedsim" / name).symlink_to(ROOT / name)
    return tmp_path / "above"


def seen(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What `LOOK` prints."""
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("where", ["from the folder above", "with PYTHONPATH"])
def test_a_checkout_called_fedsim_is_no_empty_package(
    where: str, above: Path, tmp_path: Path
) -> None:
    """Installed or not: what is found by its folder's name is the package inside."""
    if where == "with PYTHONPATH":
        found = seen(python(LOOK, tmp_path, str(above)))
    else:
        found = seen(python(LOOK, above))
    own = [str(above / "fedsim" / p / "__init__.py") for p in ("fedsim", "clients", "server")]
    assert found[:3] == own
    assert found[3:] == ["3", "True"]


def test_without_it_the_checkout_hides_the_package(above: Path) -> None:
    """So the file at the root of the checkout is what the test above is about."""
    (above / "fedsim" / "__init__.py").unlink()
    done = python(LOOK, above)
    assert done.returncode
    assert "fedsim" in done.stderr.splitlines()[-1]


def test_the_file_does_nothing_by_another_name(tmp_path: Path) -> None:
    """A checkout is called anything; pytest imports such files by the folder's name."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "__init__.py").symlink_to(ROOT / "__init__.py")
    code = "import sys; n = len(sys.path); import checkout; print(len(sys.path) - n)"
    assert seen(python(code, tmp_path)) == ["0"]


@pytest.mark.parametrize("name", ["server.py", "clients/__init__.py", "server/index.html"])
def test_a_stranger_by_the_name_of_a_package_is_named(name: str, tmp_path: Path) -> None:
    """A file, a package, or a plain folder where Python was started."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    stranger = tmp_path / Path(name).parts[0]
    # As an editable install does it: what is on the path comes before what its finder knows.
    code = f"import sys; sys.path.append({str(ROOT)!r}); import fedsim; del sys.path[-1]"
    said = python(f"{code}; fedsim.simulate", tmp_path).stderr.splitlines()[-1]
    assert said == (
        f"fedsim.errors.FedsimError: Python takes {stranger} for fedsim's own package "
        f"'{stranger.stem}' ({ROOT / stranger.stem}): rename it, or start in another folder or "
        f"without {tmp_path} on PYTHONPATH."
    )


def test_the_command_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("raise SystemExit('a web server of somebody else')")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import run_sim; run_sim.main()"
    done = python(code, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: Python takes {tmp_path / 'server.py'} for fedsim's own")
    assert len(done.stderr.splitlines()) == 1
