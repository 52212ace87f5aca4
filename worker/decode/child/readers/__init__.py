"""Readers of media. They load codecs, so only the decode child imports them."""
