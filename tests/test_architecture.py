"""The house: imports run downwards, foreign libraries stay in their rooms, no global randomness."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fedsim

ROOT = Path(__file__).resolve().parents[1]
OURS = ("fedsim", "clients", "server", "run_sim")

# The longest prefix of a module's name decides its floor; imports may stay on a floor or go down.
FLOORS = {
    "fedsim": 0,  # config, seeding, parameters, errors, files, ...
    "fedsim.data": 1,
    "fedsim.models": 1,
    "fedsim.evaluation": 1,
    "fedsim.floors": 1,
    "fedsim.suggesting": 1,
    "fedsim.runs": 2,
    "fedsim.run_reading": 2,
    "fedsim.run_display": 2,
    "fedsim.federation": 2,
    "fedsim.privacy": 2,
    "fedsim.compression": 2,
    "fedsim.leakage": 2,
    "fedsim.engines": 2,
    "fedsim.tracking": 2,
    "fedsim.tracking.options": 0,
    "clients": 3,
    "server": 3,
    "fedsim.deploy": 4,
    "fedsim.memory": 4,
    "fedsim.simulation": 4,
    "fedsim.api": 7,
    "fedsim.report": 6,
    "fedsim.studies": 5,
    "fedsim.cli": 8,
    "run_sim": 9,
}

# Foreign library -> where it may be imported. A prefix covers the modules below it.
ROOMS = {
    "flwr": ("clients.app", "server.app", "server.strategy", "server.dispatch",
             "server.nodes", "server.exchange", "server.inspection", "server.strategies",
             "fedsim.engines", "fedsim.simulation"),
    "opacus": ("clients.private", "clients.private_contract", "fedsim.privacy"),
    "dp_accounting": ("fedsim.privacy",),
    "ray": ("fedsim.engines.ray",),
    "typer": ("fedsim.cli",),
    "optuna": ("fedsim.studies",),
    "matplotlib": ("fedsim.report",),
    "jinja2": ("fedsim.report",),
    "torch.utils.tensorboard": ("fedsim.tracking.tensorboard",),
    "wandb": ("fedsim.tracking.wandb",),
    "mlflow": ("fedsim.tracking.mlflow",),
}  # fmt: skip


def module_name(file: Path) -> str:
    """fedsim/data/store.py -> fedsim.data.store."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file
    for top in ("fedsim", "clients", "server")
    for file in sorted((ROOT / top).rglob("*.py"))
} | {"run_sim": ROOT / "run_sim.py"}
TREES = {name: ast.parse(file.read_text("utf-8")) for name, file in FILES.items()}


def imports(name: str, lazily: bool = True) -> Iterator[str]:
    """The modules that a module imports; those for type checkers only are left out.

    `lazily` counts imports inside functions too.
    """
    waiting: list[ast.AST] = [TREES[name]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazily:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide what depends on what"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else str(node.module)
        waiting += ast.iter_child_nodes(node)


def below(module: str, prefix: str) -> bool:
    """Whether the module is the prefix or in it."""
    return module == prefix or module.startswith(prefix + ".")


def floor(module: str) -> int:
    """The floor of the longest prefix that is in FLOORS."""
    return FLOORS[max((p for p in FLOORS if below(module, p)), key=len)]


@pytest.mark.parametrize("name", FILES)
def test_imports_run_downwards(name: str) -> None:
    for imported in imports(name):
        if imported.split(".")[0] in OURS:
            assert imported in FILES, f"{name} imports {imported}, which does not exist"
            assert floor(imported) <= floor(name), f"{name} imports {imported} from above"


def test_clients_and_server_never_import_each_other() -> None:
    for name in FILES:
        other = {"clients": "server", "server": "clients"}.get(name.split(".")[0])
        if other:
            assert not [i for i in imports(name) if below(i, other)]


def test_no_module_needs_itself() -> None:
    graph = {
        name: {i for i in imports(name, lazily=False) if i in FILES and i != name} for name in FILES
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(FILES)


@pytest.mark.parametrize("library", ROOMS)
def test_foreign_libraries_stay_in_their_rooms(library: str) -> None:
    for name in FILES:
        if any(below(i, library) for i in imports(name)):
            assert any(below(name, room) for room in ROOMS[library]), f"{name} imports {library}"


def test_private_names_of_flower_are_in_one_file() -> None:
    public = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy",
              "flwr.simulation"}  # fmt: skip
    for name in FILES:
        private = {i for i in imports(name) if below(i, "flwr")} - public
        assert not private or name == "fedsim.engines.flower_compat", f"{name}: {private}"


def test_randomness_comes_from_named_streams_only() -> None:
    """Global generators and generators of unknown seed; the type np.random.Generator is fine."""
    for name, tree in TREES.items():
        if name in ("fedsim.seeding", "fedsim.noise"):
            continue
        assert "random" not in set(imports(name)), f"{name} imports random"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            text = ast.unparse(node)
            assert not text.endswith("manual_seed"), f"{name}: {text}"
            drawn = text.startswith(("np.random.", "numpy.random."))
            assert not drawn or text.endswith(".Generator"), f"{name}: {text}"


def test_draws_of_torch_name_their_generator() -> None:
    drawing = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal",
               "uniform_", "normal_", "bernoulli_", "random_", "exponential_"}  # fmt: skip
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                on_torch = ast.unparse(node.func.value) == "torch" or node.func.attr[-1] == "_"
                if node.func.attr in drawing and on_torch:
                    given = {keyword.arg for keyword in node.keywords}
                    assert "generator" in given, f"{name}, line {node.lineno}"


def test_every_file_says_in_one_line_what_it_is() -> None:
    for name, tree in TREES.items():
        said = ast.get_docstring(tree, clean=False)
        assert said, f"{name} has no docstring"
        first = said.split("\n\n")[0]
        assert first.count("\n") <= 1, f"{name}: the first sentence is one line or two"
        assert tree.body[0].lineno == 1, f"{name}: the docstring is not in the first line"


def test_every_package_ships() -> None:
    """A package that pyproject does not list is missing from a wheel, and only there."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    packages = {name for name, file in FILES.items() if file.name == "__init__.py"}
    assert packages <= listed


def test_one_version_everywhere() -> None:
    """Flower wants it in pyproject.toml, a paper in CITATION.cff, a run folder from the code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    newest = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1].splitlines()[0]
    assert f"\nversion: {fedsim.__version__}\n" in cited
    assert project["version"] == fedsim.__version__ == newest
