"""`python -m provision`, the same as the `provision` console script."""

from provision.cli.main import run

if __name__ == "__main__":
    run()
