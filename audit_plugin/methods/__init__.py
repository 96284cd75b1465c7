"""One module (or package) per published method; pure functions of the bank table and the score table."""
