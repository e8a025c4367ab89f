"""Which bundle drives the arm: a store of bundles, promotion on evidence, rollback, and a ledger of every decision."""
