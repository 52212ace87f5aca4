"""How far figures hold: on other sets, by size of the face, on degraded copies, and where pairs are hard."""
