"""NYUDv2: indoor scenes with depth, in 40 classes."""
