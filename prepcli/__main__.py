"""Entry point of `python -m prepcli`, which runs the command `prep`."""

from prepcli.cli import main

if __name__ == "__main__":
    main()
