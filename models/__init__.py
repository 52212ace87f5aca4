"""Networks, value types, geometry, weights and releases."""
