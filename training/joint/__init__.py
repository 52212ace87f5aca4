"""Joint runs: all branches, and the trunk where it is asked for, trained on crops that change each time."""
