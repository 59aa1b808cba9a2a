"""Trust only files and connections of this user: what the server runs or reads is what it wrote itself."""
