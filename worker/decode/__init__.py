"""Frames out of files: a child process reads hostile bytes, a client in the worker reads frames from it.

``worker.decode.client.Decoder`` is the way in. ``worker.decode.child`` is the process, which nothing in
the worker imports.
"""
