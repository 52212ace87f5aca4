"""The life of a release in a deployment: registered, compared, switched to, gone back from, retired."""
