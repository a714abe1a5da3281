"""`/apprentice learning on | off [here | everywhere]`: whether what is said to the bot may become training data.

Where it is off, nobody is asked for consent or for a rating. Thumbs below an answer still stand there, and count for one
thing only: which model is asked. What was said before counts again once it is switched on.
"""

from storage.learnable import LearningPlaces
from storage.store import Store

USAGE = (
    "`/apprentice learning off` here: nothing said to me in this channel becomes training data; `on` allows it again. "
    "`/apprentice learning off everywhere` does so for the whole workspace."
)
HERE, EVERYWHERE = "here", "everywhere"


async def learning(store: Store, team: str, channel: str, person: str, words: str) -> str:
    """Do what an admin typed, or say how things stand."""
    wish, _, where = words.lower().partition(" ")
    if wish not in {"on", "off"} or where.strip() not in {"", HERE, EVERYWHERE}:
        return f"{standing(await store.learning_places(team), channel)}\n{USAGE}"
    everywhere = where.strip() == EVERYWHERE
    await store.set_learning(team, None if everywhere else channel, wish == "on", person)
    return standing(await store.learning_places(team), channel)


def standing(places: LearningPlaces, channel: str) -> str:
    """Whether anything is learned here, in words."""
    if places.workspace_off:
        return (
            "Nothing said to me in this workspace becomes training data, from the next dataset on. Nobody is asked "
            "for consent or a rating; thumbs count only for which model is asked. `/apprentice learning on "
            "everywhere` changes it."
        )
    if channel in places.channels_off:
        return (
            "Nothing said to me in this channel becomes training data, from the next dataset on. Nobody here is asked for "
            "consent or a rating; thumbs count only for which model is asked. `/apprentice learning on` changes it."
        )
    return "What people who agreed say to me here may become training data. `/apprentice learning off` changes it."
