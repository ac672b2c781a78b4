"""The way in and out of every command: errors become one line on stderr and an exit code.

0  done        1  the machine, the model or a file system failed
2  the command line, a recipe, a document or an option is wrong        130  interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

DEBUG = "KEYVALISE_DEBUG"
"""Set this variable to see where an error came from."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        code = _call(list(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _said("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has gone; Python's own last flush must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _said(*judged(error))


def _call(arguments: list[str]) -> int:
    import typer

    from keyvalise.cli import bench, calibrate, cite, demo, generate, inspect, pack, profile, recipes, store  # noqa: F401
    from keyvalise.cli.app import app

    command = typer.main.get_command(app)
    code = command.main(arguments, prog_name="keyvalise", standalone_mode=False)
    return code if isinstance(code, int) else 0


def judged(error: Exception) -> tuple[str, int]:
    """(one line, exit code) for an error that nobody caught."""
    from keyvalise.types.errors import HostError, KeyvaliseError

    if show := getattr(error, "format_message", None):
        return f"{show().rstrip('.')}; see keyvalise --help", int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return "interrupted", 130
    if isinstance(error, HostError):
        return str(error), 1
    if isinstance(error, KeyvaliseError):
        return str(error), 2
    if isinstance(error, FileNotFoundError | MemoryError | OSError):
        return str(error) or type(error).__name__, 1
    return f"{type(error).__name__}: {error} (set {DEBUG}=1 to see where)", 1


def _said(message: str, code: int) -> int:
    print(f"keyvalise: {' '.join(message.split())}", file=sys.stderr)
    return code
