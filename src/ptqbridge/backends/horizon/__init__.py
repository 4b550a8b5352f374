"""Backend of the Horizon BPUs: Journey 5 and its relatives (hb_mapper), Journey 6 (hb_compile)."""
