"""Read-only SQL of users: checked, limited and run for them."""
