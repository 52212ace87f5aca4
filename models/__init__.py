"""Models, value types, geometry, weights and releases."""
