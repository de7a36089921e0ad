"""Names: repository references, quant labels, split sets, file roles, and the evidence for each quant's quality."""
