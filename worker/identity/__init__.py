"""Identification: gives appearances their people, keeps corrections, and searches.

``worker.identity.identifier.Identifier`` gives new appearances a person, ``worker.identity.regroup`` groups all
appearances from scratch, and ``worker.identity.correct`` carries out corrections, which ``corrections`` turns into
constraints on both.
"""
