"""Decodes files: a child process reads hostile bytes, and a client in the worker receives its frames.

Use ``worker.decode.client.Decoder``. ``worker.decode.child`` is the program of the child; nothing in the worker imports
it.
"""
