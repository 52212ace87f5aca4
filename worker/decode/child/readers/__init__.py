"""Readers of media: they load codecs, so only the decode child imports them."""
