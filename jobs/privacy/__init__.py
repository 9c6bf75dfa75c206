"""Privacy: the ledger of what was spent of a data set's budget, and noise for published aggregates."""
