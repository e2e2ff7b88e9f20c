"""What papermill lacks: parameters are checked, and a notebook's run takes one line on the terminal."""
