"""Compiling the native kernel on first use, for the processor at hand, and finding it again."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fedsim.data.sources import cache_folder
from fedsim.errors import FedsimError
from fedsim.files import affixes
from fedsim.models.native.source import SOURCE

# -ffast-math is not among them: NaN must stay NaN, and sums stay in their order.
FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
FOR_THIS_PROCESSOR = ("-march=native", "-mcpu=native", "")  # as compilers spell it, or not at all
TIMEOUT_S = 120
BUILT_WITH = "built-with.txt"
_CHECK = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).self_test())"


class Unavailable(Exception):
    """There is no native kernel here; the message is the reason, half a sentence."""


def library() -> ctypes.CDLL:
    """The kernel of this machine, compiled if need be. Raises `Unavailable`."""
    found = _found()
    if isinstance(found, Unavailable):
        raise found
    return found


def built_with() -> str:
    """The compiler and the target of `library`."""
    with suppress(OSError, FedsimError, RuntimeError):
        return (_path().parent / BUILT_WITH).read_text(encoding="utf-8")
    return "compiled by an earlier version of fedsim, which made no note of how"


@lru_cache(maxsize=1)
def _found() -> ctypes.CDLL | Unavailable:
    """The library, or why there is none: one process asks the compilers once."""
    try:
        path = _path()
        noted = (path.parent / BUILT_WITH).is_file()
        if noted and path.is_file():
            with suppress(OSError):  # damaged: compile it again
                return ctypes.CDLL(str(path))
        try:
            _compile(path)
        except (OSError, Unavailable):
            if noted or not path.is_file():
                raise  # else an earlier version's, which made no note, is better than none
        return ctypes.CDLL(str(path))
    except Unavailable as error:
        return error
    except (OSError, FedsimError, ValueError, RuntimeError) as error:
        # An unwritable cache, no home folder, a $CC that is not a command.
        return Unavailable(str(error))


def _path() -> Path:
    return cache_folder() / "native" / _key() / "kernel.so"


def _key() -> str:
    """Other code, other flags or another processor: another file."""
    about = [SOURCE, *FLAGS, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's name and what it can do; a home folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def compilers() -> list[list[str]]:
    """Commands that may compile C: $CC, the system's, the one that the ziglang wheel carries."""
    found = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    found += [[path] for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if importlib.util.find_spec("ziglang") is not None:
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def _compile(path: Path) -> None:
    """Write the library to `path`, whole or not at all: others may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    problems: dict[str, None] = {}  # in order, each once
    begins, ends = affixes(path.name)
    with tempfile.TemporaryDirectory(ends, f"{begins}_", path.parent) as scratch:
        source, built = Path(scratch) / "kernel.c", Path(scratch) / "kernel.so"
        source.write_text(SOURCE, encoding="utf-8")
        for compiler in compilers():
            for target in FOR_THIS_PROCESSOR:
                options = [*FLAGS, *([target] if target else []), "-shared", "-fPIC"]
                command = [*compiler, *options, str(source), "-o", str(built), "-lm"]
                problem = _failure(command) or _failure([sys.executable, "-c", _CHECK, str(built)])
                if not problem:
                    how = " ".join([*compiler, *([target] if target else [])])
                    built.replace(path)
                    (path.parent / BUILT_WITH).write_text(how, encoding="utf-8")
                    return
                problems[problem] = None
    missing = "no C compiler was found; install one, or `pip install 'fedsim[native]'`"
    raise Unavailable("; ".join(problems) or missing)


def _failure(command: list[str]) -> str:
    """Run it; empty where it succeeds, else why not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {error}"
    said = next((line for line in done.stderr.splitlines() if "error" in line), "")
    return "" if done.returncode == 0 else f"{command[0]} failed: {said or done.returncode}"
