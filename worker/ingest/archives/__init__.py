"""Members of ZIP and TAR archives."""
