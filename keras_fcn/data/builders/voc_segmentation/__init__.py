"""PASCAL VOC 2011 and 2012 with label maps, alone and with those of SBD."""
