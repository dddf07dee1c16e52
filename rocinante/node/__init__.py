"""The daemon: the threads put together (`node`), and the process around them (`daemon.run`).

Nothing is imported here: `daemon` is what the command runs, and loads the rest.
"""

__all__: list[str] = []
