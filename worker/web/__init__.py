"""The page of ``facet web``: people, videos, images, jobs and releases for eyes, with every edit a correction."""
