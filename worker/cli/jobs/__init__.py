"""Commands on jobs: submitting, progress, cancelling, pausing and reprocessing."""
