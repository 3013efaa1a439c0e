"""Conversions: each plans on the graph, rewrites the model, and is verified."""
