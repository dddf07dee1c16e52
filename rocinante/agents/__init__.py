"""Programs beside the cluster that feed it or act on it: they know it only through `rocinante.client`."""

__all__: list[str] = []
