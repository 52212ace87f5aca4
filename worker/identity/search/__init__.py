"""Search for the face of a photo, an appearance or a person, among all people and appearances."""
