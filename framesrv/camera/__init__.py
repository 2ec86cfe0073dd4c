"""One camera's decoder process: it opens the camera's source and fills the camera's segment."""
