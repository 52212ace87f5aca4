"""Search for a face: of a photo or a person, among everybody."""
