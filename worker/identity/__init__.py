"""Who is it: gives appearances their people, groups all anew, keeps what humans said, and searches.

``worker.identity.people.Identifier`` gives new appearances a person; ``worker.identity.regroup`` groups everybody from
scratch; ``worker.identity.corrections`` does what humans say, which ``replay`` and ``ruling`` turn into constraints.
"""
