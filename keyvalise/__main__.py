"""`python -m keyvalise`: the command line."""

from keyvalise.cli import main

if __name__ == "__main__":
    main()
