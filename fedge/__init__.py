"""fedge: privacy-first federated learning for the edge.

    import fedge
    result = fedge.run("task=cancer", "privacy.epsilon=4")

What is public stands in `__all__`; it is loaded when it is first asked for, so that `import fedge` loads neither torch
nor Flower (a verifier or a budget command needs neither).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fedge.audit.verify import Verification, verify_run
    from fedge.check import check_house
    from fedge.config import RunConfig
    from fedge.errors import FedgeError
    from fedge.learning.task import Data, Records, Task, accuracy, cross_entropy
    from fedge.running import Result, Watch, resume, run

_HOMES = {
    "Data": "learning.task",
    "FedgeError": "errors",
    "Records": "learning.task",
    "Result": "running",
    "RunConfig": "config",
    "Task": "learning.task",
    "Verification": "audit.verify",
    "Watch": "running",
    "accuracy": "learning.task",
    "check_house": "check",
    "cross_entropy": "learning.task",
    "resume": "running",
    "run": "running",
    "verify_run": "audit.verify",
}

__all__ = [
    "Data",
    "FedgeError",
    "Records",
    "Result",
    "RunConfig",
    "Task",
    "Verification",
    "Watch",
    "__version__",
    "accuracy",
    "check_house",
    "cross_entropy",
    "resume",
    "run",
    "verify_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedge' has no attribute {name!r}; it offers: {', '.join(__all__)}")
    return getattr(import_module(f"fedge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
