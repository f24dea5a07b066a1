"""`python -m streamd` is the streamd command."""

import sys

from streamd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
