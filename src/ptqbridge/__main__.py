"""Entry point: answers ``--version`` before anything is imported, and hands the rest to the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from ptqbridge import __version__

        print(f"ptqbridge {__version__}")
        return
    from ptqbridge.cli import main as call

    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
