"""Face regions in XMP, as photo programs keep them: read, written, and matched with the faces of the archive."""
