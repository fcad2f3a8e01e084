"""``python -m enricher``, and the console script of the same name."""

from enricher.cli.main import main

if __name__ == "__main__":
    main()
