"""Agent sessions: what the app says about its work in a thread, and people's Stop button.

A session is one thread of one conversation: active, processing, suspended or closed, with a title. Pressing Stop ends the
thread's streams and tells the app; the session stays `processing` until the app says otherwise, as in Slack
(docs.slack.dev/reference/events/agent_session_stopped). It refuses a Stop where nothing is being done.
"""

from dataclasses import dataclass
from typing import Final

from bot.workspace import payloads
from bot.workspace.chat import Chat
from bot.workspace.delivery import Outbox
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import Channel
from bot.workspace.state import Json
from bot.workspace.streams import Streams

STATUSES: Final = ("active", "processing", "suspended", "closed")
MAX_TITLE: Final = 200
STOPPED: Final = "agent_session_stopped"


@dataclass
class Session:
    """One thread's session."""

    channel: str
    thread_ts: str
    status: str = "active"
    title: str = ""


class Sessions:
    """The sessions of one workspace; they live as long as this process."""

    def __init__(self, chat: Chat, feed: Feed, outbox: Outbox, streams: Streams) -> None:
        self._chat = chat
        self._feed = feed
        self._outbox = outbox
        self._streams = streams
        self._sessions: dict[tuple[str, str], Session] = {}

    @property
    def can_stop(self) -> bool:
        """Whether the app subscribed to agent_session_stopped; without that people see no Stop button."""
        return self._outbox.app.hears(STOPPED)

    def set_status(self, channel: Channel, thread_ts: str, status: str, *, title: str = "") -> None:
        """Make the session if there is none; `title` names only a new one. Raises Refused: invalid_arguments."""
        if status not in STATUSES:
            raise refused_for(
                "invalid_arguments", [f"must be one of: {', '.join(STATUSES)} [json-pointer:/status]"]
            )
        _check_title(title)
        fresh = Session(channel.id, thread_ts, title=title)
        session = self._sessions.setdefault((channel.id, thread_ts), fresh)
        session.status = status
        self._tell(channel, session)

    def rename(self, channel: Channel, thread_ts: str, title: str) -> None:
        """Raises Refused: session_not_found, invalid_arguments."""
        _check_title(title)
        session = self._sessions.get((channel.id, thread_ts))
        if session is None:
            raise Refused("session_not_found")
        session.title = title
        self._tell(channel, session)

    def stop(self, user: str, channel: Channel, thread_ts: str) -> None:
        """A person presses Stop. Raises Refused: not_processing."""
        session = self._sessions.get((channel.id, thread_ts))
        if session is None or session.status != "processing":
            raise Refused("not_processing", detail="The app is not at work in this thread.")
        if not self.can_stop:
            raise Refused("not_processing", detail=f"The app did not subscribe to {STOPPED}.")
        halted = self._streams.halt(channel, thread_ts)
        event = payloads.agent_session_stopped_event(
            user, channel.id, thread_ts, halted, self._chat.state.next_ts()
        )
        self._outbox.emit(event)

    def seen_by(self, user: str) -> list[Json]:
        """The sessions in conversations that this person is in."""
        channels = self._chat.state.channels
        return [vars(one).copy() for one in self._sessions.values() if user in channels[one.channel].members]

    def reset(self) -> None:
        self._sessions.clear()

    def _tell(self, channel: Channel, session: Session) -> None:
        self._feed.publish({"type": "session", **vars(session)}, to=self._chat.audience(channel))


def _check_title(title: str) -> None:
    if len(title) > MAX_TITLE:
        raise refused_for(
            "invalid_arguments", [f"must be less than {MAX_TITLE + 1} characters [json-pointer:/title]"]
        )
