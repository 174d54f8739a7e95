"""One recipe for each miniature."""
