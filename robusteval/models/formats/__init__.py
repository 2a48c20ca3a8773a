"""The formats of checkpoint files, told apart by what is in a file and not by its name."""
