"""From the settings to the rules by which words are struck out."""

from bot.settings import Settings
from storage.redaction import NameBook, Rules, install


def rules_of(settings: Settings, names: NameBook | None = None) -> Rules:
    """What the operator decides about striking out; `names` are the members of the workspace, once they are known."""
    return Rules(keep=frozenset(settings.redact_keep), national_ids=settings.redact_national_ids, names=names)


def install_rules(settings: Settings) -> None:
    """From now on everything in this process is struck out by these settings; the names of members come with the store."""
    install(rules_of(settings))
