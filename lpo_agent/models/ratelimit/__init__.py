"""How fast a service may be called: limits that are given, told by the service, or found out."""
