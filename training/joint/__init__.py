"""Joint runs: all branches, and the trunk if the recipe tunes it, trained on augmented crops."""
