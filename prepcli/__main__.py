"""`python -m prepcli` is `prep`."""

from prepcli.cli import main

if __name__ == "__main__":
    main()
