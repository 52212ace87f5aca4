"""Trunks, the identity models that branches leave: one file a family, found by name in ``registry``."""
