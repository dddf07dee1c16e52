"""Tokens that change in the worst moment."""

from __future__ import annotations

from rocinante.tokens import Keyring, Tokens

OLD, NEW = "old-" + "a1" * 16, "new-" + "b2" * 16


class ChangesInBetween(Keyring):
    """Accepts OLD when it is first asked, and NEW from then on: a request is let in, and its token is gone before it is
    a stream that can be ended."""

    def __init__(self) -> None:
        self.asked = 0
        super().__init__()

    @property
    def tokens(self) -> Tokens:
        self.asked += 1
        return Tokens(accepted=(OLD if self.asked == 1 else NEW,), anonymous=False)

    @tokens.setter
    def tokens(self, _tokens: Tokens) -> None:
        """(The base class's own.)"""
