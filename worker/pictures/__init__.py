"""What was found, as pictures: contact sheets of faces, and films and photos with boxes and labels."""
