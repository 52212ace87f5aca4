"""The ledger: units of work, their leases and their outcomes, in PostgreSQL."""
