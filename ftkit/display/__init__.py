"""What people are shown, and how values are written: declarations that load no heavy library."""
