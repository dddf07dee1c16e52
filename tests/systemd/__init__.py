"""The units and the package on a real systemd host: `make systemd-test`. Not part of `make test`: it takes minutes."""
