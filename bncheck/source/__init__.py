"""Reads Python source with libcst; never imports torch and never runs the code it reads."""
