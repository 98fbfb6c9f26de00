"""``python -m clclip``: the command line; jobs start it so, whatever PATH says."""

import sys

from clclip.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
