"""``python -m tests.benchmarks [NAME...]``: run the benchmarks of those names, or all, and print one table each."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tests.benchmarks.report import print_table


def main() -> None:
    """Run what the command line names."""
    known = sorted(file.stem.removeprefix("bench_") for file in Path(__file__).parent.glob("bench_*.py"))
    wanted = sys.argv[1:] or known
    unknown = set(wanted) - set(known)
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in wanted:
        print_table(name, importlib.import_module(f"tests.benchmarks.bench_{name}").measure())
        print()


if __name__ == "__main__":
    main()
