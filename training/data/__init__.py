"""Cases to learn from: phantoms and the user's own studies, checked, split, and made into batches on the model grid."""
