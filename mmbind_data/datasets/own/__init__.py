"""Own recordings: tables that a user's descriptor explains."""
