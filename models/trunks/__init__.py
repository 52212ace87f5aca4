"""Trunks, the identity networks that branches leave: one file a network, found by name in ``registry``."""
