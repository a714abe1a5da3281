"""What this workspace can be made to lack, to test an app's fallbacks: charts, shared files, streams to guests.

Slack rolls features out workspace by workspace, loses files and refuses streams to people of other organisations
(facts/slack.md 0.2, 1.2, 1.9). It refuses to fail a single call; that is a Fault.
"""

from dataclasses import dataclass, field
from typing import Any

from bot.workspace.refused import Refused


@dataclass
class Features:
    """The switches; the defaults are a workspace where everything works.

    data_visualization: charts are taken (else `invalid_blocks`). file_shares: a completed upload is shared at last.
    outsiders: people of another organisation (Slack Connect); a stream to them is refused with `user_not_found`.
    """

    data_visualization: bool = True
    file_shares: bool = True
    outsiders: set[str] = field(default_factory=set)

    def change(self, body: dict[str, Any]) -> None:
        """As /_control/features describes it. Raises Refused: invalid_arguments."""
        unknown = set(body) - {"user", "data_visualization", "file_shares", "outsiders"}
        if unknown:
            raise Refused("invalid_arguments", detail=f"There is no feature {', '.join(sorted(unknown))}.")
        for name in ("data_visualization", "file_shares"):
            if name in body and not isinstance(body[name], bool):
                raise Refused("invalid_arguments", detail=f"{name} is true or false.")
        outsiders = body.get("outsiders", [])
        if not isinstance(outsiders, list) or not all(isinstance(one, str) for one in outsiders):
            raise Refused("invalid_arguments", detail="outsiders is a list of user ids.")
        self.data_visualization = body.get("data_visualization", self.data_visualization)
        self.file_shares = body.get("file_shares", self.file_shares)
        if "outsiders" in body:
            self.outsiders = set(outsiders)

    def reset(self) -> None:
        self.data_visualization = self.file_shares = True
        self.outsiders = set()
