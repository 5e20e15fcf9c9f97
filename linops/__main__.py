"""``python -m linops``: the command ``linops``, as ``torchrun -m linops train …`` starts it."""

from linops.cli import main

if __name__ == "__main__":
    main()
