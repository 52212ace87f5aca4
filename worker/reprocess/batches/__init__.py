"""Computes and stores one batch: a module for each kind of source."""
