"""Files with OpenAI, and with servers that speak its protocol: deleted when somebody in them is forgotten."""

import asyncio
from typing import TYPE_CHECKING

from bot.models.files import NotDeleted

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import FileDeleted, ModelDeleted


TUNED = "ft:"
"""How the name of a model that was tuned begins."""


class OpenAIFiles:
    """The files of one key, and the models that were tuned with it: both go by their names ("file-...", "ft:...")."""

    def __init__(self, *, api_key: str, base_url: str | None = None, timeout_s: float = 60.0) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._made: AsyncOpenAI | None = None

    async def delete(self, file_id: str) -> None:
        """Delete a file or a fine-tuned model; one that OpenAI does not know any more is gone. Raises `NotDeleted`."""
        from openai import APIStatusError, NotFoundError, OpenAIError

        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        try:
            told: FileDeleted | ModelDeleted
            if file_id.startswith(TUNED):
                told = await self._made.models.delete(file_id)
            else:
                told = await self._made.files.delete(file_id)
        except NotFoundError:
            return
        except APIStatusError as error:
            raise NotDeleted(f"OpenAI answered {error.status_code}") from None
        except OpenAIError as error:
            raise NotDeleted(f"OpenAI could not be reached ({type(error).__name__})") from None
        if not told.deleted:
            raise NotDeleted("OpenAI did not say that it is deleted")

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    def _make(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self._api_key, base_url=self._base_url, timeout=self._timeout_s, max_retries=0
        )
