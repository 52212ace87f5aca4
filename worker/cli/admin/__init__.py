"""Commands for who runs a deployment: its database, its state, its releases."""
