"""What the designs would do on silicon, by the simulator's time model alone, beside the paper's figures."""
