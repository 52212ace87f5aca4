"""Units whose files this host cannot read: the places, and the search for readable units among many."""
