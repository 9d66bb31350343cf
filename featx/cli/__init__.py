"""The command line: one file for each verb, and the only room that prints."""

from featx.cli.app import main

__all__ = ["main"]
