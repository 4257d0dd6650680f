"""SIFT Flow: outdoor scenes with semantic and geometric classes."""
