"""The script `serow`, and `python -m serow`: the command line. Ctrl-C ends it quietly from its first import on."""

import sys


def main() -> None:
    """Run the command line; see `serow.cli.main.main` for the exit statuses."""
    try:
        from serow.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
