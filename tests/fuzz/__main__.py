"""Fuzz one parser with coverage as the guide: `python -m tests.fuzz TARGET [CORPUS] [-max_total_time=60 ...]`.

Needs the extra `fuzz` (atheris). What follows TARGET goes to libFuzzer. The same targets run in the test suite, with
hypothesis, for a few seconds.
"""

import sys

from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz TARGET [CORPUS] [-max_total_time=60]; targets: {', '.join(TARGETS)}")
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed; run: pip install 'fedge[fuzz]'")
    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
