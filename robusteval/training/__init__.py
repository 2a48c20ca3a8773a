"""Training: a defense, a network and images -> weights with a model card."""
