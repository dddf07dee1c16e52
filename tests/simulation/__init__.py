"""A deterministic simulator: real nodes under a virtual clock, a simulated network and simulated disks."""
