"""AWS services behind the ports. Clients are made by the composition roots, never at import."""
