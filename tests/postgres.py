"""A real PostgreSQL server for the length of a test session: own data folder, Unix socket only, never as root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`, from the PATH or from Debian's packages, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Yield the connection string of a running server."""
    folder = Path(tempfile.mkdtemp(prefix="fedge-postgres-"))
    as_user = _as_user(folder)
    data = folder / "data"
    try:
        _call(*as_user, programs / "initdb", "-D", data, "-U", "fedge", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c shared_buffers=16MB -c max_connections=20"
        _call(*as_user, programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"host={folder} user=fedge dbname=postgres"
        finally:
            _call(*as_user, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(folder: Path) -> list[str]:
    """Return the words before a command that must not run as root; the folder is made that user's."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _call(*words: str | Path) -> None:
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)
