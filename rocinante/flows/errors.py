"""What the flow model says of input that it cannot take."""

from __future__ import annotations


class FlowError(ValueError):
    """A tuple, record, batch or filter is not valid. `field` names what is at fault; `index` is the record's number in
    its batch, or -1."""

    def __init__(self, field: str, problem: str, index: int = -1) -> None:
        where = f"records[{index}].{field}" if index >= 0 else field
        super().__init__(f"{where}: {problem}")
        self.field = field
        self.problem = problem
        self.index = index

    def at(self, index: int) -> FlowError:
        """The same, said of the record with this number."""
        return FlowError(self.field, self.problem, index)
