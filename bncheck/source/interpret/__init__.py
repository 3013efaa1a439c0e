"""A bounded interpreter of Python source over abstract values: it reads networks, runs nothing."""
