"""What the designs would do on silicon: predictions beside the paper's figures, from the simulator's time model alone."""
