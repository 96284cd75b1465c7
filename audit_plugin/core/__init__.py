"""Values, protocols, errors and seeds that every other layer speaks."""
