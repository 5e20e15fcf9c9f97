"""Methods of solving, one file each."""
