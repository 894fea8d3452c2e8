"""``python -m recert.cli``."""

from recert.cli import main

if __name__ == "__main__":
    main()
