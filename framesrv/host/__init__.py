"""All cameras of a host: started, checked, shown, kept as services."""
