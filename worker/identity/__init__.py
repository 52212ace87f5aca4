"""Who is it: gives appearances their people, groups all anew, keeps what humans said, and searches.

``worker.identity.identifier.Identifier`` gives new appearances a person; ``worker.identity.regroup`` groups everybody
from scratch; ``worker.identity.correct`` does what humans say, which ``corrections`` turns into constraints.
"""
