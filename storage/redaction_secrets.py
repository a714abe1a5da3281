"""Finds secrets: tokens by the shapes of their services, private keys, passwords in URLs and wherever a name says so.

A token has a shape of its own. A password has none: it is one because "password:" stands before it, so what follows such a
name has to look like a password and not like the rest of a sentence.
"""

import re
from collections.abc import Iterator

from storage.redaction_findings import Finding, Kind, View

# Shapes as their services write them in their documentation of tokens: how each begins, and how it goes on. Every one is
# anchored, so that it cannot start inside a longer word, and bounded, so that a long text takes linear time.
TOKENS: dict[str, str] = {
    "xoxd-": r"(?:[\w/+-]|%[0-9A-Fa-f]{2}){10,600}={0,2}",  # Slack: the cookie of a browser
    "xox": r"[a-z](?:\.xox[a-z])?-[0-9A-Za-z-]{10,400}",  # Slack: bot, user, configuration, refresh, workflow tokens
    "xapp-": r"\d-[0-9A-Za-z-]{10,400}",  # Slack: app-level token
    "xwfp-": r"[0-9A-Za-z-]{10,400}",  # Slack: token of a workflow step
    "sk-": r"(?<![\w-]sk-)(?=[\w-]{0,400}[A-Za-z0-9]{16})(?=[\w-]{0,400}\d)[\w-]{20,400}",  # OpenAI, Anthropic
    "AIza": r"[\w-]{35}",  # Google: API key
    "ya29.": r"[\w-]{10,2000}(?:\.[\w-]{1,200})?",  # Google: OAuth access token
    "GOCSPX-": r"[\w-]{28}",  # Google: OAuth client secret
    "1//": r"0[\w-]{30,200}",  # Google: OAuth refresh token
    "AKIA": r"[0-9A-Z]{16}",  # AWS: access key id
    "ASIA": r"[0-9A-Z]{16}",  # AWS: temporary access key id
    "ABSK": r"[0-9A-Za-z+/]{100,300}={0,2}",  # AWS: Bedrock key
    **{f"gh{letter}_": r"[0-9A-Za-z_]{36,255}" for letter in "pousr"},  # GitHub: personal, OAuth, user, server, refresh
    "github_pat_": r"[0-9A-Za-z_]{22,255}",  # GitHub: fine-grained token
    **dict.fromkeys(
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "gloas-", "glagent-"),
        r"[\w-]{20,300}(?:\.[0-9a-z]{2}\.[0-9a-z]{7,9})?",  # GitLab
    ),
    "npm_": r"[0-9A-Za-z]{36}",
    "pypi-": r"Ag(?:EI|EN)[\w-]{50,400}",
    "hf_": r"[0-9A-Za-z]{30,64}",  # Hugging Face
    "api_org_": r"[0-9A-Za-z]{30,64}",  # Hugging Face: organisation
    **{f"{letter}k_": r"(?:live|test)_[0-9A-Za-z]{16,255}" for letter in "srp"},  # Stripe
    "whsec_": r"[0-9A-Za-z+/]{24,100}={0,2}",  # Stripe: webhooks
    "SG.": r"[\w-]{16,32}\.[\w-]{16,64}",  # SendGrid
    "SK": r"[0-9a-f]{32}",  # Twilio: key
    "AC": r"[0-9a-f]{32}",  # Twilio: account
    "key-": r"[0-9a-f]{32}",  # Mailgun
    "sq0": r"(?:atp|csp)-[\w-]{22,43}",  # Square
    "shp": r"(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # Shopify
    "dop_v1_": r"[0-9a-f]{64}",  # DigitalOcean
    "dapi": r"[0-9a-f]{32}(?:-\d)?",  # Databricks
    "dckr_": r"(?:pat|oat)_[\w-]{20,64}",  # Docker
    "hvs.": r"[\w-]{24,300}",  # Vault
    "glsa_": r"[0-9A-Za-z]{32}_[0-9A-Fa-f]{8}",  # Grafana
    "lin_api_": r"[0-9A-Za-z]{40}",  # Linear
    "ntn_": r"[0-9A-Za-z]{40,60}",  # Notion
    "secret_": r"[0-9A-Za-z]{43}",  # Notion, earlier
    "ATATT3": r"[\w=-]{100,400}",  # Atlassian
    "gsk_": r"[0-9A-Za-z]{40,64}",  # Groq
    "xai-": r"[0-9A-Za-z]{60,100}",
    "pplx-": r"[0-9A-Za-z]{40,64}",  # Perplexity
    "r8_": r"[0-9A-Za-z]{37}",  # Replicate
    "NRAK-": r"[0-9A-Z]{27}",  # New Relic
    "sbp_": r"[0-9a-f]{40}",  # Supabase
    "AGE-SECRET-KEY-1": r"[0-9A-Z]{58}",
    "eyJ": r"(?<![\w-]eyJ)[\w-]{8,4000}\.[\w-]{8,8000}\.[\w-]{0,4000}(?:\.[\w-]{1,4000}){0,2}",  # JSON Web Token
}  # fmt: skip
SHAPES = {
    begin: re.compile(rf"(?<![0-9A-Za-z]){re.escape(begin)}{rest}(?![0-9A-Za-z])", re.ASCII)
    for begin, rest in TOKENS.items()
}
# Tokens without a beginning of their own: Telegram's bots, Discord's, Microsoft Entra's secrets, Mailchimp.
LONE = re.compile(
    r"(?<![\w-])(?:\d{8,10}:AA[\w-]{33}|[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}|[\w~.]{3}\dQ~[\w~.-]{31,34}"
    r"|[0-9a-f]{32}-us\d{1,2})(?![\w-])",
    re.ASCII,
)
WEBHOOK = re.compile(
    r"https://(?:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([\w/-]{10,200})"
    r"|(?:\w{1,20}\.)?discord(?:app)?\.com/api/webhooks/([\w/-]{10,200})"
    r"|[\w.-]{1,80}\.webhook\.office\.com/webhookb2/([\w@/-]{10,300}))"
)
BEARER = re.compile(r"\b(?i:bearer)\s{1,4}((?=[\w.~+/-]{0,4000}\d)[\w.~+/-]{16,4000}=*)")
AUTHORIZATION = re.compile(
    r"(?i:authorization)[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?i:basic|token|apikey|digest)\s{1,3}([\w.~+/=-]{6,4000})"
)
AWS_PAIR = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}[^0-9A-Za-z/+][\s\S]{0,100}?(?<![0-9A-Za-z/+])"
    r"((?=[0-9A-Za-z/+]{0,39}[a-z])(?=[0-9A-Za-z/+]{0,39}[A-Z])(?=[0-9A-Za-z/+]{0,39}\d)[0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
)
AZURE = re.compile(
    r"(?i:accountkey|sharedaccesskey|sharedsecretvalue|accesskey)[\"']?\s{0,2}[:=]\s{0,2}[\"']?([0-9A-Za-z+/]{40,88}={0,2})"
)
AWS_SECRET = re.compile(
    r"(?i:aws_?secret_?(?:access_?)?key)[\"']?\s{0,4}[:=]\s{0,4}[\"']?([0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:(?:(?!-----)[\s\S]){0,20000}-----END (?P=what)-----|[A-Za-z0-9+/=\s\\\"'|>*#]{0,20000})"  # the end may be cut off
)
PUTTY_KEY = re.compile(r"Private-Lines: \d{1,3}\s(?:[A-Za-z0-9+/=]{1,80}\s{1,3}){1,80}")

# The user's part may be empty; the password goes up to the last @ before the path, and may hold a slash itself.
URL_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:<>]{0,200}"
    r":((?!\d{1,5}(?:[/?#\s]|$))[^\s<>|]{1,200})@(?=[\w\[])"
)
CURL_USER = re.compile(r"\bcurl\s[^\n]{0,200}?(?:-u[ =]?|--user[ =])[\"']?[^\s:\"']{1,80}:([^\s\"']{3,200})")
SHELL = re.compile(
    r"\b(?:sshpass\s+-p\s{0,2}|mysql\w{0,10}\s[^\n]{0,80}?\s-p|docker login\s[^\n]{0,80}?\s-p\s"
    r"|net use [^\n]{0,80}?/user:\S{1,80} )"
    r"[\"']?([^\s\"']{4,200})"
)
AUTH = re.compile(r"\bauth\s?=\s?\(\s?[\"'][^\"'\n]{0,80}[\"'],\s?[\"']([^\"'\n]{3,200})[\"']")  # Python's
NETRC = re.compile(r"\blogin\s{1,4}\S{1,80}\s{1,4}password\s{1,4}(\S{3,200})")

# A name and its value side by side: environments of containers, settings in XML, the cells of a table.
BESIDE = re.compile(
    r"(?i:\b(?:name|key))\\?[\"']?\s?[:=]\s?\\?[\"']?(?P<name>[\w.-]{2,60})\\?[\"']?[,\s]{1,20}\\?[\"']?(?i:value)\\?[\"']?\s?[:=]\s?"
    r"\\?[\"']?(?P<value>[^\s\"'`<>\\]{3,400})"
)
CELLS = re.compile(
    r"\|[ \t*`]{0,4}(?P<name>[\w -]{2,40}?)[ \t*`]{0,4}\|[ \t*`]{0,4}(?P<value>[^\s|`<>]{4,200})[ \t*`]{0,4}(?=\|)"
)
# Without a sign between them, only what people choose where a rule wants both cases and a digit.
NEXT_TO = re.compile(
    r"\b(?i:password|passwort|passwd|kennwort|pw)[ ]{1,2}[\"'`*]{0,2}"
    r"(?P<value>(?=\S{0,40}[a-z])(?=\S{0,40}[A-Z])(?=\S{0,40}\d)[^\s\"'`<>(){}:/=]{8,60})(?=[\s\"'`*,;!?]|$|\.(?:\s|$))"
)

# What a password is called, without - and _ and spaces; whatever stands before it belongs to it, as in DB_PASSWORD.
_NAMES = """
    password passwords passwd passphrase passcode passwort passwords kennwort motdepasse contraseña contrasena senha
    wachtwoord pwd userpass dbpass secret secretkey secretaccesskey clientsecret signingsecret token apikey accesskey
    authkey encryptionkey privatekey privatekeyid masterkey accountkey sharedaccesskey sessionkey licensekey
    credential credentials signature
"""
NAMES = tuple(_NAMES.split())
WHOLE_NAMES = frozenset(["pass", "pw", "pin", "sig", "passkey", "auth"])
SIGN = re.compile(r"[:=]")
VALUE = re.compile(
    r"[>=]?(?P<gap>[ \t*]{0,4}(?P<below>\r?\n[ \t>]{0,8})?)(?P<quote>\\?[\"'`]?)(?P<value>[^\s\"'`<>]{3,400})"
)
PHRASE = re.compile(r"[ \t]{0,4}(?P<quote>[\"'])(?P<value>[^\"'\n<>{}$]{3,100})(?P=quote)")
SAID = re.compile(
    r"\b(?i:password|passphrase|passcode|passwort|kennwort|pwd|pw|pin|secret|token|api key|key)"
    r"(?i: (?:for|to|of) [\w.@-]{1,40})?"
    r" (?i:is|was|ist|lautet|war)(?i: now| set to| still)?:? [\"'`*]{0,2}(?P<value>[^\s\"'`<>]{4,200})"
)
IS = re.compile(r" (?:is|was|ist|lautet|war) ")
PIN = re.compile(r"\b(?i:pin)(?i: code| number)?(?i: is| was| ist|:)? (\d{4,8})(?!\w|[.,]\d)")
AFTER_NAME = re.compile(
    r"\b(?i:tokens?|api[ _-]?key|secret|password|passwort|pw)(?: ?(?:->|→|=>) ?|[ \t]{1,3})[\"'`(]{0,2}"
    r"(?P<value>(?=[\w.~+-]{0,200}\d)[\w.~+-]{20,200}={0,2}|(?<=[>→] )[^\s\"'`<>]{4,200}|(?<=[>→])[^\s\"'`<>]{4,200})"
)
COOKIE = re.compile(r"(?i:\bcookie:[ \t])(?=([^\n]{0,2000}))")
CRUMB = re.compile(r"=([\w%.~+/-]{10,600})")
OPTION = re.compile(
    r"--?(?i:password|passwd|token|secret|api-key|pass)[ =][\"']?(?P<value>[^\s\"'<>-][^\s\"'<>]{3,200})"
)
ELEMENT = re.compile(
    r"<(?i:(?:\w{0,20}[.:_-])?(?:password|passwd|secret|token|api-?key))>(?P<value>[^<>\n]{3,200})</"
)
HINTS = (
    "password",
    "passphrase",
    "passwd",
    "passcode",
    "passwort",
    "kennwort",
    "pwd",
    "pw ",
    "pin",
    "secret",
    "token",
    "key ",
)
STAND_IN = re.compile(
    r"[*•.xX_-]+|\$.*|.*\{.*|%\(?\w*\)?[sd]?|(?i:password|passwd|pass|pw|secret|token|string|text|changeme|example|none|null|nil|"
    r"unknown|empty|above|below|here|wrong|invalid|correct|missing|default|same|any|"
    r"[A-Za-z]+(?:_[A-Za-z]+){0,6}_(?:password|passwd|pass|token|secret|key|pwd)|true|false|undefined|required|optional|hidden|redacted|key|value|todo|tbd|env|input)|\[.*\]?|\(.*|your.*|my.*|<.*|&.*|.*\(.*|"
    r"(?:os|self|settings|config|process|env|secrets|vars|args|ENV|this|request|data|params)[.\[].*",
    re.ASCII,
)
WORDY = re.compile(r"[^\W\d_]+(?:[-'’/][^\W\d_]+)*")
SECRETIVE = re.compile(r"(?=.*[^\W\d_])(?=.*\d)|(?=.*[^\W_])(?=.*[!@#$%^&*_+~?])|[a-z]+[A-Z].*[a-z]|.{20,}")
OTHER_THAN_LETTERS = re.compile(r"[^\W\d_].*[\d!@#$%^&*_+~?]|[\d!@#$%^&*_+~?].*[^\W\d_]")
TRAILING = ".,;:!?)]}\\|*"


SHORTEST = 15  # of all tokens


def secrets(view: View) -> Iterator[Finding]:
    """Everything secret, in any order; findings may overlap."""
    text = view.text
    if max(map(len, text.split()), default=0) >= SHORTEST:
        yield from _tokens(text)
    if "PRIVATE KEY" in text or "Private-Lines" in text:
        yield from _whole(PRIVATE_KEY, text)
        yield from _whole(PUTTY_KEY, text)
    if "://" in text:
        yield from _in_urls(text)
    yield from _named(text)
    yield from _said(text)


def _tokens(text: str) -> Iterator[Finding]:
    for begin, shape in SHAPES.items():
        if begin in text:
            yield from _whole(shape, text)
    if "Q~" in text or ":AA" in text or "-us" in text or text.count(".") > 1:
        yield from _whole(LONE, text)
    lower = text.lower()
    if "bearer" in lower or "authorization" in lower:
        yield from _groups((BEARER, AUTHORIZATION), text)
    if "AKIA" in text or "ASIA" in text:
        yield from _groups((AWS_PAIR,), text)


def _whole(pattern: re.Pattern[str], text: str) -> Iterator[Finding]:
    for match in pattern.finditer(text):
        end = match.end() - (len(match[0]) - len(match[0].rstrip(" \t\r\n|>*#\"'\\")))
        yield Finding(match.start(), end, Kind.SECRET, text[match.start() : end])


def _groups(patterns: tuple[re.Pattern[str], ...], text: str) -> Iterator[Finding]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            group = match.lastindex or 0
            yield Finding(*match.span(group), Kind.SECRET, match[group])


def _in_urls(text: str) -> Iterator[Finding]:
    yield from _groups((WEBHOOK,), text)
    for match in URL_PASSWORD.finditer(text):
        if not STAND_IN.fullmatch(match[1]):
            yield Finding(*match.span(1), Kind.SECRET, match[1])


def _named(text: str) -> Iterator[Finding]:
    """What a colon or an equals sign gives to a name such as DB_PASSWORD."""
    for sign in SIGN.finditer(text):
        at = sign.start()
        if _is_name(text[max(0, at - 40) : at]):
            phrase = PHRASE.match(text, at + 1) if text[at] == "=" else None
            match = phrase if phrase and " " in phrase["value"] else VALUE.match(text, at + 1)
            if match and (value := _given(text, at, match)):
                start = match.start("value")
                yield Finding(start, start + len(value), Kind.SECRET, value)


def _given(text: str, at: int, match: re.Match[str]) -> str | None:
    """The password that a sign gives, if it looks like one."""
    if match.re is PHRASE:
        return None if STAND_IN.fullmatch(match["value"]) else match["value"]
    value = match["value"]
    if "|" in value and text.rfind("<http", max(0, at - 500), at) > text.rfind(">", max(0, at - 500), at):
        value = value.partition("|")[0]  # Slack's <address|words>
    value = _trimmed(value)
    after = match.start("value") + len(value)
    alone = text[match.end() : match.end() + 1] in {"", "\n", "\r"}
    if match["below"]:
        return value if alone and OTHER_THAN_LETTERS.search(value) and _is_password(value) else None
    close = text[at] == "=" and not match["gap"]
    quoted = bool(match["quote"]) and text[after : after + 2].lstrip("\\")[:1] in {'"', "'", "`"}
    return value if _is_password(value, told=close or quoted, alone=alone) else None


def _is_name(before: str) -> bool:
    """Whether what stands before a sign ends with what a password is called."""
    before = before.rstrip(" \t\"'`*\\:").rstrip("0123456789").lower()
    if before.replace("_", "").replace("-", "").replace(" ", "").endswith(NAMES):
        return True
    return re.split(r"[\W_]", before[-10:])[-1] in WHOLE_NAMES


def _said(text: str) -> Iterator[Finding]:
    """What a sentence, a command or an element says to be a password."""
    lower = text.lower()
    if any(hint in lower for hint in HINTS):
        if IS.search(lower):
            yield from _values(SAID, text, told=False)
        yield from _values(AFTER_NAME, text, told=False)
        yield from _groups((PIN,), text)
        yield from _values(NEXT_TO, text, told=False)
        yield from _beside(text)
    if "--" in text:
        yield from _values(OPTION, text, told=False)
    if "</" in text:
        yield from _values(ELEMENT, text, told=True)
    if "auth" in lower:
        yield from _groups((AUTH,), text)
    if any(command in lower for command in ("curl", "login", "sshpass", "mysql", "net use")):
        yield from _groups((CURL_USER, NETRC, SHELL), text)
    if "cookie:" in lower:
        for header in COOKIE.finditer(text):
            for crumb in CRUMB.finditer(text, *header.span(1)):
                yield Finding(*crumb.span(1), Kind.SECRET, crumb[1])


def _beside(text: str) -> Iterator[Finding]:
    """What stands beside the name of a password without being given to it by a sign."""
    for pattern in (BESIDE, CELLS):
        for match in pattern.finditer(text):
            value = _trimmed(match["value"])
            if _is_name(match["name"]) and _is_password(value) and SECRETIVE.match(value):
                yield Finding(match.start("value"), match.start("value") + len(value), Kind.SECRET, value)


def _values(pattern: re.Pattern[str], text: str, *, told: bool) -> Iterator[Finding]:
    for match in pattern.finditer(text):
        value = _trimmed(match["value"])
        if _is_password(value, told=told):
            yield Finding(match.start("value"), match.start("value") + len(value), Kind.SECRET, value)


def _trimmed(value: str) -> str:
    """Without the punctuation of the sentence around it, and without the next parameter of a URL."""
    return re.split(r"[&;,](?=[\w.-]{1,40}=)", value, maxsplit=1)[0].rstrip(TRAILING)


def _is_password(value: str, *, told: bool = False, alone: bool = False) -> bool:
    """Whether this may be one: `told` as code tells it (="..."), the last word of its line, or as odd as passwords are."""
    if len(value) < 3 or STAND_IN.fullmatch(value) or value.startswith(("<", "http://", "https://")):
        return False
    if told:
        return True
    if WORDY.fullmatch(value):
        return alone and len(value) >= 6 and value[0].islower() and not value.endswith(("ed", "ing", "able"))
    return bool(SECRETIVE.match(value)) or (alone and len(value) >= 4)
