"""Images of the results: contact sheets of faces, and videos and images annotated with boxes and labels."""
