"""Pre-training of skills and skill dynamics, and the export of bundles. Importing the package itself needs no torch."""
