"""Frames to rows: the pipeline of a worker process. It decodes, recognises, tracks and stores."""
