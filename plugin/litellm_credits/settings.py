"""Settings, from environment variables with the prefix CREDITS_ (table in README.md)."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from litellm_credits.errors import StartupRefused


class Settings(BaseSettings):
    """What an operator can set. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="CREDITS_", extra="ignore", frozen=True)

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 14 or newer. Unset: an embedded server in data_dir."
    )
    listen_url: SecretStr | None = Field(
        None, description="PostgreSQL itself, where database_url leads to a transaction-pooling pgbouncer."
    )
    data_dir: Path = Field(
        Path("~/.litellm-credits"), description="Where the embedded PostgreSQL and the generated admin key are kept."
    )
    pool_size: int = Field(8, ge=1, le=200, description="Most database connections per proxy worker.")
    pool_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a call waits for the database before it is refused with 503."
    )
    prepare_statements: bool = Field(True, description="Off behind a transaction-pooling pgbouncer older than 1.21.")
    lease_seconds: float = Field(
        120.0, gt=0, description="How long a hold outlives a worker that died; renewed while the worker lives."
    )
    cache_ttl_seconds: float = Field(
        60.0, gt=0, description="Longest life of a cached key or price should a change notification be missed."
    )
    max_body_bytes: int = Field(10_000_000, ge=1024, description="Larger request bodies are refused with 413.")
    record_bytes: int = Field(
        32_768, ge=0, description="Most bytes of a request, and of a response, kept on its call row. 0: none."
    )
    default_max_output_tokens: int = Field(
        4096, ge=1, description="Written into requests that state no limit, for models whose own limit is unknown."
    )
    idempotency_seconds: float = Field(
        86_400.0, ge=60, description="How long the answer to a request with an Idempotency-Key is kept."
    )
    idempotency_answer_bytes: int = Field(
        1_048_576, ge=0, description="Larger answers are not kept: the request is not repeated, but answered with 409."
    )
    settle_wait_seconds: float = Field(
        5.0, gt=0, description="How long an answer waits for its settle when the ledger is slow or away."
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once.

    Raises:
        StartupRefused: naming the variable, for a value that does not fit.
    """
    try:
        return Settings()
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        name = "_".join(map(str, first["loc"])).upper()
        raise StartupRefused(problem=f"CREDITS_{name}: {first['msg']}") from problem
