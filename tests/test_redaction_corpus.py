"""Planted secrets and personal data do not survive, and ordinary messages do.

The corpus is in `redaction_corpus`: every shape in every way of pasting it, fake but valid by every check sum.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redaction_corpus import COUNTRIES, member_names, planted, remains
from redaction_members import hashed_names, three_hundred

from storage.redaction import PLACEHOLDER, Kind, Rules, findings, redact

SEED = 7


EVERYTHING = Rules(national_ids=COUNTRIES, names=member_names())


def test_nothing_that_was_planted_survives() -> None:
    """Over 300 items, counted by kind: neither a secret nor its digits nor half of it is left, and its kind was seen."""
    items = planted(SEED)
    left = [(item.shape, item.carrier, rest) for item in items if (rest := remains(item, _struck(item.text)))]
    unseen = [
        (item.shape, item.carrier)
        for item in items
        if item.kind not in redact(item.text, rules=EVERYTHING).found
    ]
    counts = Counter(str(item.kind) for item in items)
    print("planted:", dict(counts), "survived:", len(left))
    assert (left, unseen) == ([], [])
    assert len(items) >= 300
    assert set(counts) == {str(kind) for kind in Kind}


def _struck(text: str) -> str:
    return redact(text, rules=EVERYTHING).text


def test_the_corpus_can_fail() -> None:
    """Left as it is, every message holds what it is about: otherwise the test above would prove nothing."""
    items = planted(SEED)
    escaped = "html,url,url twice,full width,odd dashes,spelt,slack tel,json,json in json,one line,zero width,soft hyphen"
    hidden = set(escaped.split(","))
    assert [item for item in items if item.carrier not in hidden and not remains(item, item.text)] == []


@pytest.mark.parametrize("seed", [SEED + 1, 35, 101, 202, 303])
def test_another_draw_of_the_corpus_survives_as_little(seed: int) -> None:
    """The rules do not know this one draw by heart. (In 35 the second line of an IBAN passes for a card.)"""
    items = [item for n, item in enumerate(planted(seed)) if n % 3 == seed % 3 or item.kind is Kind.IBAN]
    assert [(item.shape, item.carrier) for item in items if remains(item, _struck(item.text))] == []


def test_striking_out_again_changes_nothing_and_breaks_no_placeholder() -> None:
    """What was stored is struck out again on its way into datasets, exports and logs."""
    for item in planted(SEED)[::2]:
        once = redact(item.text, rules=EVERYTHING)
        again = redact(once.text, rules=EVERYTHING)
        assert (again.text, dict(again.found)) == (once.text, {}), item
        assert len(PLACEHOLDER.findall(once.text)) == sum(once.found.values()), item


def test_several_things_in_one_message_are_counted_and_numbered() -> None:
    """Any three items, one below the other: each goes, and as many placeholders stand there as were found."""
    rng = random.Random(SEED)
    items = [item for item in planted(SEED) if not item.carrier.startswith(("broken", "cut"))]
    for _ in range(150):
        three = rng.sample(items, 3)
        done = redact("\n\n".join(item.text for item in three), rules=EVERYTHING)
        assert [item for item in three if set(item.survivors) & set(done.text.split())] == []
        assert len(PLACEHOLDER.findall(done.text)) == sum(done.found.values())


def _messages(folder: Path) -> Iterator[tuple[str, str]]:
    for part in ("train", "test"):
        for line in (folder / "banking77" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
            yield "banking77", json.loads(line)["question"]
    for line in (folder / "stackfaq" / "qa.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        yield from (("stackfaq", pair[part]) for part in ("question", "short_answer", "top_answer"))
    for line in (folder / "stackfaq" / "threads.jsonl").read_text(encoding="utf-8").splitlines():
        yield from (("stackfaq's answers", answer) for answer in json.loads(line)["answers"])


REALLY_THERE = {
    Kind.EMAIL: {
        "foo@bar.com", "pip@pop.com", "thatgoogleaccount@example.com", "coworker@yourdomain.com", "support@github.com",
        "address@company.com", "test@gmail.com",
    },
    Kind.PERSON: {"david", "sharp", "jonathan", "jacob", "jackson", "matthew", "ethan"},
}  # fmt: skip
"""What stands in those messages and is what we take it for, looked at by hand: addresses to which one can write (also where
they are meant as an example), and people who are called as a member is (Remy Sharp, Jonathan Sampson, Jacob Tuinstra)."""


def _mistaken(text: str, rules: Rules) -> list[str]:
    """What is struck out of a text although it is nobody's."""
    seen = [(finding.kind, text[finding.start : finding.end]) for finding in findings(text, rules)]
    return [said for kind, said in seen if said.casefold() not in REALLY_THERE.get(kind, set())]


def test_ordinary_messages_stay_as_they_are(shared_data: Path) -> None:
    """With every country's ids and 300 members whose names are words as well: under 1 % of real messages are mistaken.

    The longest answers belong to them. What is really there is no mistake, and is named above.
    """
    rules = Rules(national_ids=COUNTRIES, names=hashed_names(three_hundred()))
    messages = set(_messages(shared_data))
    seen = Counter(source for source, _ in messages)
    touched = Counter(source for source, text in messages if redact(text, rules=rules).found)
    wrong = {(source, text): found for source, text in messages if (found := _mistaken(text, rules))}
    mistaken = Counter(source for source, _ in wrong)
    rates = {
        source: f"{touched[source]} touched, {mistaken[source]} mistaken of {count} = {mistaken[source] / count:.2%}"
        for source, count in seen.items()
    }
    print("messages:", rates)
    assert all(mistaken[source] < seen[source] / 100 for source in seen), (rates, list(wrong.values()))


LOOK_ALIKES = """
order number 4111111111111111, order id: 4012888888881881 and tracking no 5500005555555559
version 10.12.14.16, v1.2.3.4, pkg==1.22.333.4, Chrome/120.0.6099.109 and section 4.2.1.3
localhost is 127.0.0.1, any is 0.0.0.0, the mask 255.255.255.0, the network 10.0.0.0/8, the router 192.168.1.1, DNS 8.8.8.8
commit 9fceb02d0ae598e95dc970b74767f19372d61af8 and 9fceb02, tree d8329fc1cc938780ffdd9f94e0d364e0ea74f579
550e8400-e29b-41d4-a716-446655440000 and {6ba7b810-9dad-11d1-80b4-00c04fd430c8}
2026-11-23T05:15:00.123456Z, 1700000000, 1700000000.123456, 23.11.2026 05:15:59, 20261123051559
<#C024BE91L|general>, C024BE91L, T0123ABCD, https://acme.slack.com/archives/C024BE91L/p1700000000123456
report_2026-11-23_final(2).pdf, IMG_20261123_051559.jpg, backup-20261123.tar.gz, /var/log/app/2026/11/23.log
$1,234,567.89, 1.234.567,89 €, 1 234 567 CHF, 99.90 USD, EUR 1500000, 3 x 4 x 5
ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, ISSN 2049-3630, EAN 4006381333931
sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
00:1A:2B:3C:4D:5E, 12:30:45, std::vector<int>::iterator, a::b, ::1, 16:9
Reset your password: click the link. Forgot password? Password: required. password=password, token: string
Enter the password below: then press OK. The token is invalid. My password is not working.
The PIN is wrong, the key is missing, PIN code: none, the secret is out
password=os.environ["X"], token = request.headers["Authorization"]
api_key=${API_KEY}, secret: {{ secrets.KEY }}, token=$(cat file), key=<your key>
git@github.com:team/repo.git, @types/node@20.1.0, user@host, icon@2x.png, ssh root@server
Will you mark this? May I? Mark as read, in May 2026, on Rose Street, Bill Gates
the bill, a grant, chase it, art, frank words
Will it be Frank? Mark all. March is over. Grant access to the Page. Art is long. The Chase is on. Press Mark, then Will.
+1 to that, 50-60 %, 10-12-14, call 911, room 030, 1-2-3, 24/7, 0171
"""


@pytest.mark.parametrize("line", LOOK_ALIKES.strip().splitlines())
def test_what_looks_alike_stays(line: str) -> None:
    """Orders, versions, hashes, dates, ids, files, prices, books and code, with every country and 300 members."""
    rules = Rules(names=hashed_names(three_hundred()), national_ids=COUNTRIES)
    assert redact(line, rules=rules).text == line
