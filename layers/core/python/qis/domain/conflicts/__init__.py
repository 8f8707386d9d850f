"""Writers who do not wait for each other: whose write follows whose, and what becomes of the others."""
