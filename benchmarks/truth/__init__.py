"""The truth about a package's layers, taken by building and running its models."""
