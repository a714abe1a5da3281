"""What the operator may set: the environment and `.env`, read once, here and nowhere else.

Every setting has a default that works on one machine without an account. `.env.example` explains each of them.
"""

import difflib
import io
import os
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import PublicError
from storage.redaction_ids import COUNTRIES

STARTER = Path(__file__).parent / "starter"
MANIFEST = Path(__file__).parent / "slack" / "manifest.yaml"
HANDBOOK = Path(__file__).parent / "handbook" / "handbook.jsonl"


class Policy(StrEnum):
    """Who is asked, and in which order."""

    LOCAL_FIRST = "local-first"
    API_FIRST = "api-first"
    BOTH = "both"
    LOCAL_ONLY = "local-only"
    DUEL = "duel"


class Settings(BaseSettings):
    """The configuration of one bot."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    data_dir: Path = Path("data")
    database_url: str = ""

    slack_bot_token: SecretStr | None = None
    slack_app_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None
    slack_api_url: str = ""
    http_port: int = Field(default=3000, ge=0, le=65535)
    socket_connections: int = Field(default=2, ge=1, le=10)
    workspace_port: int = Field(default=8765, ge=0, le=65535)

    admin_users: Annotated[tuple[str, ...], NoDecode] = ()
    admin_channel: str = ""
    promotion_approvals: int = Field(default=1, ge=1, le=2)
    promote: Literal["ask", "canary", "auto"] = "ask"
    promote_axis: Literal["quality", "cost", "latency", "judge"] = "quality"
    canary_share: float = Field(default=0.2, ge=0, le=0.5)
    canary_days: float = Field(default=14.0, gt=0, le=91)

    answer_policy: Policy = Policy.LOCAL_FIRST
    private_channels: Literal["local", "api"] = "local"
    explore_rate: float = Field(default=0.03, ge=0, le=0.2)
    good_answer_usd: float = Field(default=0.05, ge=0)
    router_cron: str = "30 2 * * *"
    digest_cron: str = "0 9 * * 1"
    guards_cron: str = "0 2 * * *"
    answer_deadline_s: float = Field(default=90.0, gt=0)
    question_limit: int = Field(default=8000, ge=100, description="characters")
    late_answer_limit_s: float = Field(default=3600.0, gt=0)
    duel_votes: int = Field(default=3, ge=1)
    duel_hours: float = Field(default=24.0, gt=0, le=24 * 30)
    solicit_rate: float = Field(default=0.05, ge=0, le=1)

    local_model: str = ""
    local_engine_url: str = ""
    local_engine_key: SecretStr | None = None
    local_adapters_path: str = ""
    local_engine: Literal["embedded", "openai-compatible"] = "embedded"
    local_precision: Literal["auto", "fp32", "bf16", "int8", "4bit"] = "auto"
    local_max_new_tokens: int = Field(default=96, ge=1, le=8192)
    local_system_prompt: str = ""
    local_examples: int | None = Field(default=None, ge=0, le=10)
    allow_downloads: bool = True

    openai_api_key: SecretStr | None = None
    openai_base_url: str = ""
    openai_model: str = "gpt-6-luna"
    openai_reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] = "none"
    gemini_api_key: SecretStr | None = None
    gemini_base_url: str = ""
    gemini_model: str = "gemini-3.5-flash-lite"
    gemini_vertex_project: str = ""
    gemini_vertex_location: str = "global"
    api_timeout_s: float = Field(default=60.0, gt=0)
    api_max_output_tokens: int = Field(default=1024, ge=16)
    api_system_prompt: str = ""
    prices_file: Path | None = None
    openai_free: bool = False
    budget_day_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    budget_month_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    budget_channel_month_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    memory_embeddings: str = ""
    memory_embeddings_url: str = ""
    memory_embeddings_key: SecretStr | None = None

    sample_domain: bool = True
    train_base_model: str = ""
    train_quantization: Literal["nf4", "none"] = "nf4"
    train_min_examples: int = Field(default=30, ge=1)
    rater_cap: float = Field(default=0.05, ge=0, le=1)
    author_cap: float = Field(default=0.2, ge=0, le=1)
    review_required: bool = False
    train_epochs: float | None = Field(default=None, gt=0)
    train_timeout_s: float = Field(default=6 * 3600.0, gt=0)
    train_memory_mb: int | None = Field(default=None, ge=1)
    train_processes: int = Field(default=1, ge=1, le=64)
    evaluation_limit: int = Field(default=300, ge=10)
    eval_api: bool = False
    judge_model: str = ""
    judge_limit: int = Field(default=200, ge=2)
    train_with: Literal["local", "openai", "gemini", "ray"] = "local"
    ray_address: str = ""
    ray_token: SecretStr | None = None
    ray_storage: Path | None = None
    ray_workers: int = Field(default=1, ge=1, le=64)
    ray_gpus_per_worker: float = Field(default=0.0, ge=0, le=8)
    ray_python: str = "python"
    train_openai_model: str = ""
    train_usd_per_1m: float | None = Field(default=None, ge=0)
    train_gemini_model: str = ""
    train_gemini_location: str = ""
    train_gemini_bucket: str = ""
    train_gemini_usd_per_1m: float | None = Field(default=None, ge=0)
    train_confirm_usd: float = Field(default=5.0, ge=0)
    train_cron: str = "0 3 * * *"
    timezone: str = "UTC"

    forget_switch: Literal["ask", "auto"] = "ask"
    retain_raw_days: int = Field(default=30, ge=0)
    retain_days: int = Field(default=365, ge=0)
    retain_rated_days: int = Field(default=0, ge=0)
    retain_datasets: int = Field(default=20, ge=0)

    dataset_languages: Annotated[tuple[str, ...], NoDecode] = ()

    redact_keep: Annotated[tuple[str, ...], NoDecode] = ()
    redact_national_ids: Annotated[tuple[str, ...], NoDecode] = ()

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"

    @field_validator("admin_users", "dataset_languages", "redact_keep", "redact_national_ids", mode="before")
    @classmethod
    def _split_ids(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("redact_national_ids")
    @classmethod
    def _known_countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        countries = tuple(sorted({country.lower() for country in value}))
        unknown = [country for country in countries if country not in COUNTRIES]
        if unknown:
            raise ValueError(f"has no rules for {', '.join(unknown)}; known are {', '.join(COUNTRIES)}")
        return countries

    @field_validator("local_engine")
    @classmethod
    def _knows_its_server(cls, value: str, info: ValidationInfo) -> str:
        """The fields that it needs stand before it, so that they are read by now."""
        if value != "embedded":
            if not urlsplit(info.data.get("local_engine_url", "")).netloc:
                raise ValueError("needs LOCAL_ENGINE_URL, such as http://127.0.0.1:8000/v1")
            if not info.data.get("local_model"):
                raise ValueError("needs LOCAL_MODEL, the name under which the server has the model")
        return value

    @field_validator("ray_address")
    @classmethod
    def _ray_head(cls, value: str) -> str:
        where = urlsplit(value)
        if value and (where.scheme not in {"http", "https"} or not where.netloc):
            raise ValueError("is no address of Ray's Jobs API; write one such as http://ray-head:8265")
        return value

    @field_validator("judge_model")
    @classmethod
    def _api_judge(cls, value: str) -> str:
        kind, _, model = value.partition(":")
        if value and (kind not in {"openai", "gemini"} or not model):
            raise ValueError(
                "is no API model; write openai:MODEL or gemini:MODEL (a local model is no judge)"
            )
        return value

    @field_validator("data_dir")
    @classmethod
    def _whole_path(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("is no time zone; write a name such as Europe/Berlin") from None
        return value

    @field_validator("router_cron", "digest_cron", "guards_cron", "train_cron")
    @classmethod
    def _known_time(cls, value: str) -> str:
        """As five cron fields; "" for never, which is written "off", as what is empty is not set."""
        from bot.schedule import OFF, parse_schedule

        words = value.strip()
        if not words or words.casefold() in OFF:
            return ""
        try:
            cron = parse_schedule(words, "UTC").text
        except PublicError as error:
            raise ValueError(f"is no time. {error}") from None
        if not cron:
            raise ValueError('says no time. Write one such as "0 3 * * *", or "off" for never.')
        return cron

    @classmethod
    def read(cls, env_file: Path | None = Path(".env"), **overrides: object) -> Self:
        """Read `.env` and the environment (which wins). Raises PublicError naming each setting that is wrong."""
        from_file = _read_env_file(env_file) if env_file is not None else {}
        known = {name: value for name, value in from_file.items() if name in cls.model_fields}
        environment = {
            name: os.environ[name.upper()] for name in cls.model_fields if os.environ.get(name.upper())
        }
        try:
            return cls(**{**known, **environment, **overrides})  # type: ignore[arg-type]
        except ValidationError as error:
            lines = [_explain(dict(problem)) for problem in error.errors()]
            raise PublicError("The settings cannot be used:\n" + "\n".join(lines)) from None

    @property
    def on_slack(self) -> bool:
        """Whether the bot talks to real Slack instead of the local workspace."""
        return self.slack_bot_token is not None

    @cached_property
    def database(self) -> str:
        """The database's URL: DATABASE_URL, or a SQLite file in the data directory."""
        return self.database_url or f"sqlite:///{self.data_dir / 'apprentice.sqlite'}"

    @cached_property
    def base_model(self) -> str:
        """Path or hub id of the local model; the starter model where none is set."""
        return self.local_model or str(STARTER)

    @property
    def on_a_server(self) -> bool:
        """Whether a server elsewhere runs the local model, instead of a process of ours."""
        return self.local_engine != "embedded"

    @property
    def base_to_train(self) -> str:
        """Path or hub id of what a training run starts from; on a server the model may have another name."""
        return (self.on_a_server and self.train_base_model) or self.base_model

    @property
    def base_label(self) -> str:
        """What people read as the base model's name."""
        return Path(self.local_model).name if self.local_model else "starter (demo model)"

    @property
    def examples_for_local(self) -> int:
        """How many verified answers the local model reads before a question; the starter has no room for any."""
        if self.local_examples is not None:
            return self.local_examples
        return 0 if self.with_starter else 3

    @property
    def with_starter(self) -> bool:
        """Whether the local model is the tiny demo model."""
        return not self.local_model


CHILD_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "HF_HOME",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "SSL_CERT_FILE",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def child_environment() -> dict[str, str]:
    """What a trainer and the local model get of our environment: enough to run, none of Slack's or the providers' keys."""
    kept = {name: os.environ[name] for name in CHILD_ENVIRONMENT if name in os.environ}
    return {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", **kept}


def editor() -> str:
    """The command that opens a text for whoever sits at the terminal."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


def forget_proxies() -> None:
    """Slack's SDK sends even loopback through a proxy of the environment; with the local workspace there is none."""
    for name in PROXIES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


def _read_env_file(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PublicError(f"{file} is not a text file in UTF-8. Copy .env.example and start again.") from None
    except OSError as error:
        raise PublicError(f"{file} cannot be read ({error.strerror}). Check its permissions.") from None
    _check_lines(file, text)
    return {name.lower(): value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}


def _check_lines(file: Path, text: str) -> None:
    """Raises PublicError for what is no setting. A broken line is not repeated: it may be a key."""
    for binding in parse_stream(io.StringIO(text)):
        raw = binding.original.string
        number = binding.original.line + len(raw[: len(raw) - len(raw.lstrip())].splitlines())
        if binding.error or (binding.key is not None and not _is_assignment(binding)):
            raise PublicError(
                f"{file}, line {number}: this is no NAME=value, or a quote is not closed. Correct or delete the line."
            )
        known = [field.upper() for field in Settings.model_fields]
        name = (binding.key or "").upper()
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if name not in known and close:
            raise PublicError(f"{file}, line {number}: {name} is no setting. Did you mean {close[0]}?")


def _is_assignment(binding: Binding) -> bool:
    return binding.value is not None and str(binding.key).isidentifier()


def _explain(problem: dict[str, object]) -> str:
    location = problem["loc"]
    name = str(location[0]).upper() if isinstance(location, tuple) and location else "?"
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"  {name}: {said} (it is {_shown(problem.get('input'))})."


def _shown(value: object) -> str:
    return repr(value) if not isinstance(value, SecretStr) else "hidden"
