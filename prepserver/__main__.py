"""Entry point of `python -m prepserver`, which runs `prep-server`."""

from prepserver.cli import main

if __name__ == "__main__":
    main()
