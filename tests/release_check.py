"""What would be published, built, looked into, installed in a clean environment and tested there: `make release-check`.

    python tests/release_check.py [ARGUMENTS OF PYTEST]

The tracked files are copied to a temporary folder, so that nothing untracked takes part and nothing is written here. From them come
the sdist and the wheel; from the sdist both again, which must be the same. The wheel is installed with its extra `test` in an
environment of its own. There the demo is run, then the tests of the sdist, which lie in a folder without the packages, and the
docstrings of the installed ones. Sdist and wheel are left in dist/.
"""

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

from places import PACKAGES, ROOT

DATA = {"fpsolve/py.typed", "nets/py.typed", "nets/digits.csv.gz", "nets/DATA_LICENSE"}
GENERATED = {"PKG-INFO", "setup.cfg"}  # setuptools writes these two anew in an sdist
#: Variables that would bring something of this machine into the clean environment.
FOREIGN = re.compile(r"PYTHON|FPSOLVE|NUMBA|VIRTUAL_ENV|PIP_TARGET|MAKE|MFLAGS|COVERAGE|PYTEST")


class Failed(Exception):
    """A check failed."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="fpsolve-release-") as name:
        folder = Path(name)
        try:
            version = same_version()
            sdist, wheel = built(folder, version)
            look_into(sdist, wheel)
            python = installed(folder, wheel, version)
            run([python.parent / "fpsolve", "demo", "--out", folder / "demo"], folder, shown=True)
            away = unpacked(sdist, folder / "away")
            for package in PACKAGES:
                shutil.rmtree(away / package)
            tests(python, away)
        except Failed as error:
            print(f"release-check: {error}", file=sys.stderr)
            return 1
        (ROOT / "dist").mkdir(exist_ok=True)
        for path in (sdist, wheel):
            print(f"dist/{path.name}  {path.stat().st_size} bytes  sha256 {digest(path.read_bytes())}")
            shutil.copy(path, ROOT / "dist")
    return 0


# ---- versions -------------------------------------------------------------------------------------------------------


def same_version() -> str:
    """The version, which the package, the citation and the first section of the changelog agree on."""
    found = {
        "fpsolve/__init__.py": r'^__version__ = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## \[(.+?)\]",
    }
    versions = {name: re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)[:1] for name, pattern in found.items()}
    if len({tuple(v) for v in versions.values()}) != 1 or [] in versions.values():
        raise Failed(f"versions differ: {versions}")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    if setup["metadata"]["version"] != "attr: fpsolve.__version__":
        raise Failed(f"setup.cfg has a version of its own: {setup['metadata']['version']}")
    (version,) = versions["CITATION.cff"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M)
    print(f"version {version} everywhere; " + ("dated in the changelog" if dated else "the changelog has no date for it yet"))
    return version


# ---- building -------------------------------------------------------------------------------------------------------


def built(folder: Path, version: str) -> tuple[Path, Path]:
    """Sdist and wheel of the tracked files, equal to those that the sdist gives, with metadata in order."""
    source, tools = folder / "source", environment(folder / "tools")
    os.environ.setdefault("SOURCE_DATE_EPOCH", run(["git", "log", "-1", "--format=%ct"], ROOT).strip())
    tracked = run(["git", "ls-files", "-z"], ROOT).split("\0")[:-1]
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run([tools, "-m", "pip", "install", "--quiet", *requirements("release")], folder)
    sdist, wheel = build(tools, source, folder / "first", version)
    names = {str(path) for path in contents(sdist)}
    generated = {name for name in names if ".egg-info" in name} | GENERATED
    if names - generated != set(tracked) - GENERATED:
        raise Failed(f"sdist and tracked files differ (MANIFEST.in): {sorted(names - generated ^ set(tracked) - GENERATED)}")
    again, wheel_again = build(tools, unpacked(sdist, folder / "unpacked"), folder / "second", version)
    if contents(again) != contents(sdist):
        raise Failed("the sdist built from the sdist is another")
    if wheel_again.read_bytes() != wheel.read_bytes():
        raise Failed("the wheel built from the sdist's sdist is another")
    run([tools, "-m", "twine", "check", "--strict", sdist, wheel], folder)
    print(f"sdist of {len(names)} files, wheel of {len(contents(wheel))}; the sdist gives both again, the wheel to the last bit")
    return sdist, wheel


def build(tools: Path, source: Path, out: Path, version: str) -> tuple[Path, Path]:
    """The wheel is built from the sdist, in an environment of its own; times of files are those of the last commit."""
    run([tools, "-m", "build", "--outdir", out, source], out.parent)
    sdist, wheel = out / f"fpsolve-{version}.tar.gz", out / f"fpsolve-{version}-py3-none-any.whl"
    if set(out.iterdir()) != {sdist, wheel}:
        raise Failed(f"built {sorted(p.name for p in out.iterdir())} in place of {sdist.name} and {wheel.name}")
    return sdist, wheel


def requirements(extra: str) -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["options.extras_require"][extra].split()


def contents(path: Path) -> dict[str, str]:
    """Digests of the files of a wheel or an sdist by their names, those of an sdist without its folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: digest(wheel.read(name)) for name in wheel.namelist()}
    with tarfile.open(path) as sdist:
        members = {member.name.partition("/")[2]: sdist.extractfile(member) for member in sdist if member.isfile()}
        return {name: digest(file.read()) for name, file in members.items() if file is not None}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # none before 3.11.4
    (inner,) = folder.iterdir()
    return inner


def look_into(sdist: Path, wheel: Path) -> None:
    """The wheel has every file of the packages and nothing else but its metadata, with both licences."""
    inside, there = contents(wheel), contents(sdist)
    expected = {}
    for folder, package in PACKAGES.items():
        expected |= {package + name.removeprefix(folder): d for name, d in there.items() if name.startswith(folder + "/")}
    info = {name.partition("/")[2] for name in inside if ".dist-info/" in name}
    if {name: d for name, d in inside.items() if ".dist-info/" not in name} != expected:
        raise Failed(f"wheel and packages differ: {sorted(set(expected) ^ {n for n in inside if '.dist-info/' not in n})}")
    if info != {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}:
        raise Failed(f"the wheel's metadata are {sorted(info)}")
    needed = {f"{p}/__init__.py" for p in PACKAGES.values()} | {
        "fpsolve/py.typed",
        "nets/py.typed",
        "nets/digits.csv.gz",
        "nets/DATA_LICENSE",
    }
    if not needed <= set(inside):
        raise Failed(f"the wheel lacks {sorted(needed - set(inside))}")


# ---- the clean environment ------------------------------------------------------------------------------------------


def installed(folder: Path, wheel: Path, version: str) -> Path:
    """Python of an environment that has the wheel and what it asks for, and finds all of it there."""
    python = environment(folder / "clean")
    run([python, "-m", "pip", "install", "--quiet", f"{wheel}[test]"], folder)
    run([python, "-m", "pip", "check"], folder)
    program = "import importlib.util as u, sys; print(*(u.find_spec(name).origin for name in sys.argv[1:]))"
    for origin in run([python, "-c", program, *PACKAGES.values()], folder).split():
        if not Path(origin).is_relative_to(folder / "clean") or "site-packages" not in origin:
            raise Failed(f"{origin} is not the installed wheel")
    for command in ([python.parent / "fpsolve", "--version"], [python, "-m", "fpsolve", "--version"]):
        if (printed := run(command, folder).strip()) != f"fpsolve {version}":
            raise Failed(f"{command[0]} --version printed {printed}")
    return python


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def tests(python: Path, away: Path) -> None:
    """The tests as `make test` runs them; what reads source reads that of the installed packages."""
    side_by_side = ["-p", "no:benchmark", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    run([python, "-m", "pytest", *side_by_side, *sys.argv[1:], "tests", "--pyargs", "fpsolve", "nets"], away, shown=True)


def run(command: list[object], folder: Path, *, shown: bool = False) -> str:
    """What a command prints that runs in a folder with nothing of this environment; or it is shown as it comes."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    begin, text = time.perf_counter(), list(map(str, command))
    out = None if shown else subprocess.PIPE
    done = subprocess.run(
        text, cwd=folder, env=kept, stdout=out, stderr=None if shown else subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"{done.stdout or ''}{' '.join(text)} ended with exit code {done.returncode}")
    if shown:
        print(f"{' '.join(text[1:4])} ... took {time.perf_counter() - begin:.0f} s", flush=True)
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
