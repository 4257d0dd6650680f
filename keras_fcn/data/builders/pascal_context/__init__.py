"""PASCAL-Context: whole scenes of PASCAL VOC 2010."""
