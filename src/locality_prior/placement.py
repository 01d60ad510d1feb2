"""Which of a model's modules lie on which geometry: their weights and activations, unit by unit."""
