"""The command line: one file a verb, and the only room that prints."""

from featx.cli.app import main

__all__ = ["main"]
