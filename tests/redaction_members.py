"""A member list of a few hundred, with every name that is a word as well."""

import random

from storage.redaction_names import HashedNames, name_keys

# Names that are words as well come first, then others.
_FIRST = """
    Will Mark May Rose Bill Grant Chase Art Drew Frank June April Grace Hope Joy Faith Dawn Eve Ruby Amber Max
    Ray Jack Svetlana Priya Wei Yuki Olumide Fatima Jürgen José Anaïs Søren Zoë Siobhan Ahmed Mohammed Sofia
    Lukas Emma Noah Liam Olivia Ethan Lucas Mia Amelia Charlotte Oliver James Benjamin Elijah Alexander Henry
    Daniel Michael Sebastian Matthew Samuel David Joseph John Peter Paul Thomas Robert Richard Charles
    Christopher Anthony Steven Andrew Kenneth Kevin Brian George Edward Ronald Timothy Jason Jeffrey Ryan
    Jacob Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon
"""
_LAST = """
    Smith Brown Green White Black Young King Hill Stone Wood Price Banks Cook Baker Page Lane Field Park Bell
    Ford Rivers Day Knight Love Best Cash Power Sharp Swift Case Lovelace Petrova Raman Chen Tanaka Adeyemi
    Haddad Müller García Dubois Novak O'Brien Kowalski Rossi Schmidt Ivanov Nguyen Patel Kim Fischer Weber
    Okafor Yilmaz Johnson Williams Jones Davis Miller Wilson Moore Taylor Anderson Jackson Martin Lee Thompson
    Martinez Robinson Clark Rodriguez Lewis Walker Hall Allen Wright
"""
FIRST, LAST = _FIRST.split(), _LAST.split()


def hashed_names(members: dict[str, str]) -> HashedNames:
    """A book of these people, by Slack id, as a member list would make it."""
    book = {key: who for who, name in members.items() for key in name_keys([name])}
    begins = {key[0] for key in book}
    return HashedNames(book.get, begins.__contains__)


def three_hundred() -> dict[str, str]:
    """A member list with all the names that are words as well."""
    rng = random.Random(5)
    return {f"U{place:09d}": f"{FIRST[place % len(FIRST)]} {rng.choice(LAST)}" for place in range(300)}
