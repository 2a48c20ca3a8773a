"""What the tables hold of single metrics, put together for their chapters."""
