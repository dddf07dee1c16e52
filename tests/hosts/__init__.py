"""Hosts for tests that need a whole machine: systemd as process 1, sshd, a network between them. See `lab`."""
