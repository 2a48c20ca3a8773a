"""Bounds of what a network answers to every image of a ball: its graph, what rounding adds, and the propagation."""
