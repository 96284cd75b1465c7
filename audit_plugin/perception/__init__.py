"""Independent judges of pictures: which concepts they show, and whether they are pictures at all."""
