"""Erasure: takes files and people out of everything that is stored, and says by a receipt what went.

``erase`` is the way in; ``docs/erasure.md`` says what is promised and what cannot be.
"""
