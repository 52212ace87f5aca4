"""Pages of videos and images: the list, a page for each file, its bytes, its frames and its boxes."""
