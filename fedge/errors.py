"""Every error fedge raises, as one tree.

    FedgeError                        exit 1
    ├── ConfigError                   exit 2   a key, type or value that cannot be run
    ├── DataError                     exit 3   missing, corrupt or unusable data
    ├── StorageError                  exit 4   a file that cannot be read or written (full disk, permissions)
    ├── PermissionRecordError         exit 5   a permission record that cannot be read or stored
    ├── PrivacyError                  exit 6
    │   ├── UnsoundError                       a combination whose privacy statement would be false
    │   ├── BudgetError                        a spend the budget does not allow
    │   │   └── ScheduleError                  a spend that departs from its run's plan
    │   └── LedgerError                        a ledger that is corrupt or older than it was
    ├── AuditError                    exit 7
    │   ├── ParseError                         bytes that are not in the one canonical form
    │   ├── SignatureError                     a signature that does not verify
    │   ├── ProofError                         a Merkle proof that does not verify
    │   └── LogConflictError                   two writers, a fork, or a log that shrank
    ├── RoundError                    exit 8   a message that breaks the protocol between server and client
    └── Interrupted                   exit 130 the operator stopped the run; it can be resumed

The message of each is one paragraph for a person: what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class FedgeError(Exception):
    """Root of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(FedgeError):
    """A configuration that cannot be run; names the key, what was expected and what is near it."""

    exit_code = 2


class DataError(FedgeError):
    """Data that is missing, corrupt or cannot be learned from."""

    exit_code = 3


class StorageError(FedgeError):
    """A file that cannot be read or written."""

    exit_code = 4


class PermissionRecordError(FedgeError):
    """A permission record that cannot be read or stored."""

    exit_code = 5


class PrivacyError(FedgeError):
    """A privacy statement that cannot be made or kept."""

    exit_code = 6


class UnsoundError(PrivacyError):
    """A combination of settings whose privacy statement would be false."""


class BudgetError(PrivacyError):
    """A spend that the budget of the data's owner does not allow."""


class ScheduleError(BudgetError):
    """A spend whose noise, rate or steps depart from its run's plan: only a budget for adaptive schedules allows it."""


class LedgerError(PrivacyError):
    """A ledger that is corrupt, or older than one already seen."""


class AuditError(FedgeError):
    """A log, note, proof or receipt that does not hold."""

    exit_code = 7


class ParseError(AuditError):
    """Bytes that are not in the one canonical form of what they claim to be."""


class SignatureError(AuditError):
    """A signature that is missing or does not verify."""


class ProofError(AuditError):
    """A Merkle proof that does not verify."""


class LogConflictError(AuditError):
    """Two writers, a fork, or a log that shrank."""


class RoundError(FedgeError):
    """A message that breaks the protocol between server and client."""

    exit_code = 8


class Interrupted(FedgeError):
    """The operator stopped the run cleanly; it can be resumed."""

    exit_code = 130
