"""From frames to rows: the pipeline of a worker process, which decodes, recognises, tracks and stores."""
