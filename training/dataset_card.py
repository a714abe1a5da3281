"""What a frozen dataset says of itself: README.md as a Hugging Face dataset card, and croissant.json (Croissant 1.1).

Pure: made of the manifest alone, with no time of day in it, so that the same dataset always gets the same card.
"""

import json
from collections.abc import Mapping
from typing import Any

from training.dataset_difference import Difference
from training.dataset_files import (
    CROISSANT,
    PREFERENCE_ROWS,
    PREFERENCES,
    ROWS,
    SPLITS,
    UNPAIRED,
    UNPAIRED_ROWS,
)

TITLE = "Questions and answers of one Slack workspace"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
ORIGINS: Mapping[str, str] = {
    "rating": "answers that people liked",
    "correction": "better answers that people wrote",
    "entry": "verified or imported answers",
    "distilled": "answers of an API model that nobody rated, to train on alone",
}
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
COLLECTED = (
    "People of one Slack workspace asked a bot, in channels, threads and direct messages to it. They rated its answers, "
    "wrote better ones, picked the better of two, or allowed a message to be used; the operator imported verified answers."
)
WHOSE = (
    "A row is here only if everybody whose words it holds had opted in, in a channel where learning is switched on. "
    "Nothing was read from channels but what was said to the bot."
)
STRUCK_OUT = (
    "Secrets, e-mail addresses, phone, card and account numbers and names of members are struck out before anything is "
    "stored; placeholders such as <PERSON_1> take their place. What has no shape (a nickname, a street) can have stayed."
)
PLACED = (
    "Near-duplicates and one thread are one cluster. A cluster lies on one side for ever, drawn by a salted hash; what was "
    "ever trained on is never tested, and the other way round. Files that declare a side keep it."
)
LIMITS = (
    "One team's questions, in its own words and languages, and what a few percent of its people took the time to rate. Who "
    "votes is not the average reader. Answers were right when they were rated and may have aged.",
    "Answers that people liked were written by models; liking is not proof.",
    "Placeholders stand for things that a model must not learn to fill in.",
)
RECORDS = {
    PREFERENCES: "Conversations with two answers",
    UNPAIRED: "Conversations with an answer that people disliked",
}
USES = "Fine-tuning and evaluating the models that answer in this workspace."


def card(manifest: Mapping[str, Any]) -> str:
    """README.md."""
    counts, total = manifest["counts"], sum(manifest["counts"].values())
    parts = [
        _front_matter(total),
        f"# {TITLE}\n\nDataset `{manifest['id']}`, kind *{manifest['kind']}*, made by Apprentice {manifest['code']}.\n",
        f"{_difference(manifest)}\n",
        _table(
            "Split",
            {split: counts[split] for split in SPLITS}
            | {"preferences": manifest["preferences"], "disliked answers": manifest.get("unpaired", 0)},
        ),
        _table(
            "Where rows come from", {ORIGINS.get(name, name): n for name, n in manifest["origins"].items()}
        ),
        f"There are {manifest['clusters']:,} clusters of questions that belong together.\n",
        f"## How it was collected\n\n{COLLECTED}\n",
        f"## Consent\n\n{WHOSE} {manifest['consent']}\n",
        f"## What was struck out\n\n{STRUCK_OUT} Rules version {manifest['redaction']['rules']}.\n",
        f"## Splits\n\n{PLACED}\n",
        f"## What was left out\n\n{_left_out(manifest['dropped'])}",
        f"## Rules and thresholds\n\n{_filters(manifest['filters'])}",
        "## Known limits\n\n" + "".join(f"- {limit}\n" for limit in LIMITS),
        f"## Use and licence\n\n{USES} {manifest['licence']}\n",
        f"## Files\n\n{_files()}",
    ]
    return "\n".join(parts)


def _front_matter(total: int) -> str:
    size = next((name for limit, name in SIZES if total < limit), "n>1M")
    configs = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in SPLITS)
    return (
        f"---\npretty_name: {TITLE}\nlicense: other\nlicense_name: internal-use-only\n"
        "task_categories:\n- question-answering\n- text-generation\n"
        f"size_categories:\n- {size}\nannotations_creators:\n- crowdsourced\nsource_datasets:\n- original\n"
        "tags:\n- slack\n- human-feedback\n- not-for-publication\n"
        f"configs:\n- config_name: default\n  default: true\n  data_files:\n{configs}"
        f"- config_name: preferences\n  data_files:\n  - split: train\n    path: {PREFERENCES}\n"
        f"- config_name: unpaired\n  data_files:\n  - split: train\n    path: {UNPAIRED}\n---\n"
    )


def _difference(manifest: Mapping[str, Any]) -> str:
    told = Difference.from_json(manifest.get("difference") or {})
    return told.in_words() if told is not None else ""


def _table(title: str, rows: Mapping[str, int]) -> str:
    lines = "".join(f"| {name} | {count:,} |\n" for name, count in rows.items())
    return f"| {title} | Rows |\n|---|---:|\n{lines}"


def _left_out(dropped: Mapping[str, int]) -> str:
    if not dropped:
        return "Nothing.\n"
    return "".join(f"- {count:,}: {reason}\n" for reason, count in dropped.items())


def _filters(filters: Mapping[str, Any]) -> str:
    return "".join(f"- `{name}`: {value}\n" for name, value in sorted(filters.items()))


def _files() -> str:
    return (
        "- `train.jsonl`, `validation.jsonl`, `test.jsonl`: one conversation a line; the last message is the answer\n"
        f"- `{PREFERENCES}`: a conversation with an answer that people preferred and one that they did not\n"
        f"- `{UNPAIRED}`: a conversation with an answer that people disliked (`label` false)\n"
        f"- `{ROWS}`, `{PREFERENCE_ROWS}`, `{UNPAIRED_ROWS}`: for each line its id, split, hash, cluster, origin\n"
        f"- `{CROISSANT}`: this description for programs; `manifest.json`: hashes of all files\n"
    )


def croissant(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    """croissant.json: Croissant 1.1 JSON-LD with the properties of its responsible-AI extension."""
    jsonl = [
        name for name in (*(f"{split}.jsonl" for split in SPLITS), PREFERENCES, UNPAIRED) if name in files
    ]
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"apprentice-{manifest['kind']}-{manifest['id'][:12]}",
        "description": f"{TITLE}. {COLLECTED}",
        "version": f"1.0.0+{manifest['id'][:12]}",
        "license": manifest["licence"],
        "url": f"urn:sha256:{manifest['id']}",
        "creator": {"@type": "sc:Organization", "name": "The operator of this workspace's Apprentice"},
        "datePublished": manifest["until"],
        "citeAs": f"Apprentice dataset {manifest['id']}",
        "inLanguage": "und",
        "isLiveDataset": False,
        "distribution": [_file_object(name, files[name]) for name in jsonl],
        "recordSet": [_record_set(name) for name in jsonl],
        **_responsible(manifest),
    }
    return json.dumps(described, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _file_object(name: str, file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{file['bytes']} B",
        "encodingFormat": "application/jsonlines",
        "sha256": file["sha256"],
    }


def _record_set(name: str) -> dict[str, Any]:
    stem = name.removesuffix(".jsonl")
    columns = {"id": "the question's hash", "cluster": "questions that belong together"}
    if name == PREFERENCES:
        columns |= {
            "chosen": "the preferred answer",
            "rejected": "the other one",
            "split": "where it belongs",
        }
    if name == UNPAIRED:
        columns |= {"completion": "the disliked answer", "label": "false", "split": "where it belongs"}
    fields = [_field(stem, name, column, words) for column, words in columns.items()]
    roles = {"role": "who speaks: system, user or assistant", "content": "what was said"}
    fields += [_field(stem, name, f"messages.{part}", words, of=part) for part, words in roles.items()]
    return {
        "@type": "cr:RecordSet",
        "@id": stem,
        "name": stem,
        "description": RECORDS.get(name, "Conversations"),
        "field": fields,
    }


def _field(stem: str, file: str, name: str, words: str, *, of: str = "") -> dict[str, Any]:
    """A column, or (`of`) that part of each of its messages."""
    source: dict[str, Any] = {"fileObject": {"@id": file}, "extract": {"column": name.split(".")[0]}}
    field = {
        "@type": "cr:Field",
        "@id": f"{stem}/{name}",
        "name": name,
        "description": words,
        "dataType": "sc:Text",
        "source": source | ({"transform": {"jsonPath": f"$[*].{of}"}} if of else {}),
    }
    return field | ({"isArray": True, "arrayShape": "-1"} if of else {})


def _responsible(manifest: Mapping[str, Any]) -> dict[str, Any]:
    dropped = "; ".join(f"{count:,} {reason}" for reason, count in manifest["dropped"].items())
    return {
        "rai:dataCollection": COLLECTED,
        "rai:dataCollectionType": ["Others"],
        "rai:dataCollectionRawData": "Messages of people to a bot, and its answers. The raw texts are not kept.",
        "rai:dataCollectionMissingData": f"Left out: {dropped}." if dropped else "Nothing was left out.",
        "rai:personalSensitiveInformation": [f"{WHOSE} {STRUCK_OUT}"],
        "rai:dataPreprocessingProtocol": [STRUCK_OUT, PLACED],
        "rai:dataAnnotationProtocol": "Thumbs, corrections, blind duels and reviews by the people of the workspace.",
        "rai:dataAnnotationPlatform": ["Slack"],
        "rai:dataBiases": [LIMITS[0]],
        "rai:dataLimitations": list(LIMITS),
        "rai:dataUseCases": [USES],
        "rai:dataSocialImpact": "It can repeat what a team believes. People can withdraw and be forgotten.",
        "rai:dataReleaseMaintenancePlan": "Frozen. Rows are only ever taken out, when somebody is to be forgotten.",
    }
