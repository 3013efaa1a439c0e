"""Loads, traces and saves models with torch; never imports libcst."""
