"""CamVid's road scenes as prepared for SegNet."""
