"""What papermill needs from us: parameters checked, a notebook executed."""
