"""What the bytes of a file hold, as data: pickles operation by operation, the files of torch, and what a file is."""
