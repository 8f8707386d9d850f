"""Containers of the cluster: what must run long. Thin as the handlers are: settings, one use case, health."""
