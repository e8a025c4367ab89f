"""Episodes: one format for teleoperation, scripted play and policy runs; recordings, training cache, importers."""
