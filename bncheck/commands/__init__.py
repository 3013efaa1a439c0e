"""One module per command, each with a click command named `command`; see `bncheck.cli`."""
