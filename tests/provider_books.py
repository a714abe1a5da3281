"""A meter that writes down what it is told, and a server that says what it was given to say."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from bot.errors import BudgetSpent
from bot.models import Call
from storage.values import Bill


@dataclass
class Books:
    """Announced calls and their bills. Holds no more than `limit` calls; the next one is refused."""

    limit: int | None = None
    calls: list[Call] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)

    async def before(self, call: Call) -> None:
        if self.limit is not None and len(self.calls) >= self.limit:
            raise BudgetSpent("The budget of this month is spent.")
        self.calls.append(call)

    def bill(self, bill: Bill) -> None:
        self.bills.append(bill)

    @property
    def balanced(self) -> bool:
        """Whether each announced call has its bill, within what was announced."""
        return len(self.calls) == len(self.bills) and all(
            bill.tokens_in <= call.tokens_in and bill.tokens_out <= call.tokens_out
            for call, bill in zip(self.calls, self.bills, strict=True)
        )

    @property
    def tokens(self) -> tuple[int, int]:
        """All tokens in and out."""
        return sum(bill.tokens_in for bill in self.bills), sum(bill.tokens_out for bill in self.bills)


@dataclass(frozen=True)
class Reply:
    """What the server says to one request."""

    body: str
    kind: str = "text/event-stream"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Reader:
    """A server that reads out replies in order, whatever it is asked; the last one again and again."""

    replies: deque[Reply] = field(default_factory=deque)
    requests: list[dict[str, object]] = field(default_factory=list)
    url: str = ""

    async def read_out(self, request: web.Request) -> web.Response:
        if request.can_read_body:
            self.requests.append(await request.json())
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        headers = {"Content-Type": reply.kind, **reply.headers}
        return web.Response(body=reply.body.encode(), status=reply.status, headers=headers)


@asynccontextmanager
async def reading(*replies: Reply) -> AsyncIterator[Reader]:
    """A reader on a port of loopback that the system chooses."""
    reader = Reader(deque(replies))
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", reader.read_out)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield reader
    finally:
        await runner.cleanup()
