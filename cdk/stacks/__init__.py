"""What an environment is made of: data that stays, and the service that works on it."""
