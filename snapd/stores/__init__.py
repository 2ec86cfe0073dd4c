"""Where pictures are put."""
