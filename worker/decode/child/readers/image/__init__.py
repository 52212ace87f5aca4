"""Images: photos and drawings of one or several pages, of any depth."""
