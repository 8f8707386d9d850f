"""Infrastructure: one typed configuration per environment, one construct per capability, thin stacks."""
