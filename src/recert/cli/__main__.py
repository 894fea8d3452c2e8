"""``python -m recert.cli``."""

from recert.cli.entry import main

if __name__ == "__main__":
    main()
