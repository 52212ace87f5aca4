"""The decode child: ``python -m worker.decode.child`` reads hostile bytes, confined by the kernel."""
