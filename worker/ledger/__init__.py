"""The ledger: which units of work there are, who holds each, and how each ended; PostgreSQL decides."""
