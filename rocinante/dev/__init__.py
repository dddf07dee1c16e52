"""`rocinante dev`: a whole cluster on this machine, one process a node, in one terminal."""

from rocinante.dev.launcher import Launcher, Options
from rocinante.dev.layout import DevError

__all__ = ["DevError", "Launcher", "Options"]
