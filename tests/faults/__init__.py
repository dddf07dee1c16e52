"""Real processes, real faults: clusters in network namespaces, a recorded load, and what must hold after each fault."""
