"""TensorFlow Datasets builders of the data sets of the FCN papers, one per folder."""
