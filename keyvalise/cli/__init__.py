"""The command line: `keyvalise demo | generate | bench | recipes | cite | inspect-cache | profile | …`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    from keyvalise.cli import door

    sys.exit(door.run(sys.argv[1:] if arguments is None else arguments))
