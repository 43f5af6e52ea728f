"""Several readers' label maps: their consensus (STAPLE) and their agreement."""
