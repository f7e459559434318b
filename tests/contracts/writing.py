"""A process that writes to a journal.

    python -m tests.contracts.writing KIND PLACE NAME WRITER COUNT [LIMIT [killed]]

Each entry says who wrote it at which size; its number is printed once `append` has returned. With LIMIT, no file may
grow beyond that many bytes, as on a full disk; 0 is no limit. With `killed` it dies while it is writing.
"""

import os
import resource
import signal
import sys
from pathlib import Path

from fedge.errors import LogConflictError, StorageError
from fedge.journal import Journal, SqliteJournal
from fedge.packed import PackedJournal
from fedge.postgres import PostgresJournal


def opened(kind: str, place: str, name: str) -> Journal:
    if kind == "packed":
        return PackedJournal(Path(place), "a client", name)
    return SqliteJournal(Path(place), name) if kind == "sqlite" else PostgresJournal(place, name, "entries")


def main(kind: str, place: str, name: str, writer: str, count: str, limit: str = "", end: str = "") -> None:
    journal = opened(kind, place, name)
    if end == "killed":
        with journal.transaction():
            journal.append([b"never committed"])
            print("inside", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    done = 0
    while done < int(count):
        size = journal.size()
        try:
            journal.append([f"{writer} at {size}".encode() * (100 if limit else 1)], expected_size=size)
        except LogConflictError:
            continue
        except StorageError as error:
            print("full" if limit else error, flush=True)
            return
        done += 1
        print(size, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
