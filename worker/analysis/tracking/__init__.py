"""Joins the faces of a file to tracks and aggregates them as appearances; works on arrays alone."""
