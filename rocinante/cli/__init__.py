"""The `rocinante` command: one module a verb, loaded when it is used."""

__all__: list[str] = []
