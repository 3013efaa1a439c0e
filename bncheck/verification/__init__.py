"""Proof that a converted model computes what the original does."""
