"""`python -m tests.benchmarks [NAME ...]`: measure, and print; --quick tries them out with tiny counts."""

from __future__ import annotations

import argparse
import os
import platform

# Before anything imports huggingface_hub, which reads these once.
os.environ.setdefault("COURSE_EDITION", "mini")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: list[str] | None = None) -> None:
    from tests.benchmarks import explorer, floor, grids, loading

    known = (grids.grid, grids.seeds, explorer.slider, floor.floor, loading.second, loading.start)
    table = {benchmark.__name__: benchmark for benchmark in known}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(table)}; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny counts: shows that they run, measures nothing")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it chooses")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in table]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(table)}")
    import diffusers
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(
        f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__} with {torch.get_num_threads()} "
        f"threads, diffusers {diffusers.__version__}, edition {os.environ['COURSE_EDITION']}"
    )
    if arguments.quick:
        print("--quick: tiny counts; these numbers say nothing")
    for name in arguments.names or table:
        print(f"\n{name}: {table[name].__doc__}", flush=True)
        table[name](arguments.quick)


if __name__ == "__main__":
    main()
