"""Read-only SQL of users: checks, limits and runs it."""
