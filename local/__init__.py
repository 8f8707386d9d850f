"""The local twin: the resources of the template on embedded parts, and the real handlers as processes."""
