"""Where labelled images come from: a folder with a table, or procedural scenes."""
