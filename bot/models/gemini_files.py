"""Objects of ours in Google's buckets: deleted when somebody in them is forgotten, or a run left them behind."""

import aiohttp

from bot.models.files import NotDeleted
from training.finetuners.bucket import STORAGE, Buckets, Pass, StorageRefusal, is_no_access


class GeminiFiles:
    """What the machine's Google credentials open. A file's id is its gs:// name."""

    def __init__(
        self, *, credentials: Pass | None = None, url: str = STORAGE, timeout_s: float = 60.0
    ) -> None:
        self._buckets = Buckets(credentials or Pass(), url=url, timeout_s=timeout_s)

    async def delete(self, file_id: str) -> None:
        """Delete an object; one that is not there any more is gone. Raises `NotDeleted`.

        A tuned model answers at an endpoint, which wants to be undeployed first: that is left to people.
        """
        if file_id.startswith("projects/"):
            raise NotDeleted(
                "undeploy this endpoint in Vertex AI and delete it there with its model, by hand"
            )
        try:
            await self._buckets.delete(file_id)
        except StorageRefusal as refusal:
            if refusal.status != 404:
                raise NotDeleted(f"Google answered {refusal.status}: {refusal}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotDeleted(f"Google could not be reached ({type(error).__name__})") from None
        except Exception as error:
            if not is_no_access(error):
                raise
            raise NotDeleted("Google's credentials cannot be used") from None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        await self._buckets.close()
