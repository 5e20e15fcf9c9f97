"""The command: ``python -m tests.fuzz --seconds 60 --backend numpy``."""

import argparse
import sys

from .session import session


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Random expressions against dense arithmetic."
    )
    parser.add_argument("--backend", choices=["numpy", "torch", "jax"], default="numpy")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on")
    parser.add_argument("--seed", type=int, help="of the random numbers; one is chosen and printed if none is given")
    parser.add_argument("--case", type=int, help="run this case of the seed alone")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many failures of different kinds")
    return session(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
