"""A local Slack workspace: an unmodified slack_bolt app connects to it, people use it in a browser.

It imports nothing of the bot but its errors, and never slack_sdk or slack_bolt: it is the other side of the wire.
"""

from bot.workspace.control_client import Workspace
from bot.workspace.faults import Fault, Faults
from bot.workspace.people import Person
from bot.workspace.seed import MessageShortcut, SlashCommand
from bot.workspace.server import LocalWorkspace

__all__ = ["Fault", "Faults", "LocalWorkspace", "MessageShortcut", "Person", "SlashCommand", "Workspace"]
