"""Branch and bound: proofs by cases over the phases of ReLUs."""
