"""A function whose module cannot be imported."""

raise RuntimeError("this module does not start")
