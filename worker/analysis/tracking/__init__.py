"""Joins the faces of a file to tracks, and sums them up as appearances; knows arrays alone."""
