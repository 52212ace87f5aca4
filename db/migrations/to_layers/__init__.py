"""The parts of migration 0017, from rows named by their release to rows named by the layer that decided them."""
