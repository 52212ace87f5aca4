"""How far jobs are, what they came to, and what keeps work from going forward."""
