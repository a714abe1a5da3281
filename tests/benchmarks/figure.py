"""What a benchmark prints: one JSON line a figure."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `baseline` is the bar, or what it is compared with in the same run; `better` says which side."""

    name: str
    value: float
    unit: str
    baseline: float
    better: str

    def line(self) -> str:
        """The figure as one JSON line."""
        return json.dumps(asdict(self))
