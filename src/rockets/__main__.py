"""Lets `python -m rockets` do what the `rockets` command does."""

from rockets.cli import main

if __name__ == "__main__":
    main()
