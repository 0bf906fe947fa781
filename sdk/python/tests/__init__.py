"""python3 -m unittest discover, from the package's folder."""
