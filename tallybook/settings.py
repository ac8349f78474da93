"""The environment, read once at start into one frozen value that shows no secret."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from tallybook import variables
from tallybook.variables import ConfigurationError, Variable

__all__ = ["ConfigurationError", "Settings"]


def _variable(
    *names: str,
    parse: variables.Parser = variables.text,
    must_be: str,
    default: Any = None,
    secret: bool = False,
) -> Any:
    """A field read from the first of `names` that is set; secrets stay out of `repr`."""
    variable = Variable(names, parse, must_be)
    return dataclasses.field(default=default, repr=not secret, metadata={"variable": variable})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process was told. Unset is None, an empty tuple, or the default shown here.

    An empty variable counts as unset. What a program cannot do without it says with `require`.
    """

    # Where the database is, and how the functions reach it.
    database_url: str | None = _variable(
        "DATABASE_URL",
        "SUPABASE_DB_URL",
        parse=variables.database_url,
        must_be="a URL like postgresql://user:password@host:5432/database",
        secret=True,
    )
    transport: Literal["psycopg", "postgrest"] = _variable(
        "TALLYBOOK_TRANSPORT",
        parse=variables.one_of("psycopg", "postgrest"),
        must_be="psycopg or postgrest",
        default="psycopg",
    )

    # Supabase: its address, and the API keys old and new.
    supabase_url: str | None = _variable(
        "SUPABASE_URL", parse=variables.service_url, must_be=variables.SERVICE_URL
    )
    publishable_keys: tuple[str, ...] = _variable(
        "SUPABASE_PUBLISHABLE_KEYS",
        "SUPABASE_PUBLISHABLE_KEY",
        parse=variables.api_keys("sb_publishable_"),
        must_be="one key, a comma list or a JSON object name -> key; keys begin sb_publishable_",
        default=(),
    )
    secret_keys: tuple[str, ...] = _variable(
        "SUPABASE_SECRET_KEYS",
        "SUPABASE_SECRET_KEY",
        parse=variables.api_keys("sb_secret_", random_length_min=16),
        must_be="one key, a comma list or a JSON object name -> key; keys begin sb_secret_ "
        "and go on for 16 characters or more",
        default=(),
        secret=True,
    )
    anon_key: str | None = _variable(
        "SUPABASE_ANON_KEY",
        parse=variables.legacy_key("anon", "sb_publishable_"),
        must_be="a JWT whose role is anon, or a key that begins sb_publishable_",
    )
    service_role_key: str | None = _variable(
        "SUPABASE_SERVICE_ROLE_KEY",
        parse=variables.legacy_key("service_role", "sb_secret_"),
        must_be="a JWT whose role is service_role, or a key that begins sb_secret_",
        secret=True,
    )

    # Who signs users' tokens.
    jwks: tuple[Mapping[str, Any], ...] | None = _variable(
        "SUPABASE_JWKS",
        parse=variables.key_set,
        must_be='a JSON Web Key Set, {"keys": [...]}, of public keys only',
        secret=True,
    )
    jwks_url: str | None = _variable(
        "SUPABASE_JWKS_URL", parse=variables.service_url, must_be=variables.SERVICE_URL
    )
    jwt_secret: str | None = _variable(
        "SUPABASE_JWT_SECRET",
        parse=variables.hmac_secret,
        must_be="the HS256 secret, 32 bytes or more, and no PEM key",
        secret=True,
    )
    jwt_issuer: str | None = _variable(
        "SUPABASE_JWT_ISSUER", must_be="the tokens' iss, like https://<project>/auth/v1"
    )

    # Coupon codes. A previous secret still finds and opens what was made under it.
    coupon_secret: str | None = _variable(
        "COUPON_SECRET",
        parse=variables.long_secret,
        must_be="32 characters or more",
        secret=True,
    )
    coupon_secrets_previous: tuple[str, ...] = _variable(
        "COUPON_SECRETS_PREVIOUS",
        parse=variables.long_secrets,
        must_be="a comma list or a JSON object key id -> secret, each of 32 characters or more",
        default=(),
        secret=True,
    )

    # Device attestation; the mission's two names open it, the others complete it.
    play_integrity_project_number: str | None = _variable(
        "PLAY_INTEGRITY_PROJECT_NUMBER", parse=variables.digits, must_be="digits only"
    )
    play_integrity_package_name: str | None = _variable(
        "PLAY_INTEGRITY_PACKAGE_NAME", must_be="the Android application's package name"
    )
    play_integrity_service_account: str | None = _variable(
        "PLAY_INTEGRITY_SERVICE_ACCOUNT",
        must_be="a service account's JSON, or the path of the file that holds it",
        secret=True,
    )
    play_integrity_certificates: tuple[str, ...] = _variable(
        "PLAY_INTEGRITY_CERTIFICATE_SHA256",
        parse=variables.several(),
        must_be="a comma list of SHA-256 digests of the certificates that sign the application",
        default=(),
    )
    play_integrity_decryption_key: str | None = _variable(
        "PLAY_INTEGRITY_DECRYPTION_KEY",
        must_be="the decryption key of the Play console's response encryption",
        secret=True,
    )
    play_integrity_verification_key: str | None = _variable(
        "PLAY_INTEGRITY_VERIFICATION_KEY",
        must_be="the verification key of the Play console's response encryption",
    )
    play_integrity_daily_decodes: int = _variable(
        "PLAY_INTEGRITY_DAILY_DECODES",
        parse=variables.integer(1, 100_000_000),
        must_be="how many tokens a day Google decodes for the project",
        default=10_000,
    )
    app_attest_team_id: str | None = _variable(
        "APP_ATTEST_TEAM_ID", must_be="the Apple developer team's id"
    )
    app_attest_bundle_id: str | None = _variable(
        "APP_ATTEST_BUNDLE_ID", must_be="the iOS application's bundle id"
    )
    app_attest_environments: tuple[Literal["production", "development"], ...] = _variable(
        "APP_ATTEST_ENVIRONMENTS",
        parse=variables.several("production", "development"),
        must_be="production, development, or both with a comma",
        default=("production",),
    )

    # Tenants.
    points_allocation_enabled: bool = _variable(
        "POINTS_ALLOCATION_ENABLED", parse=variables.boolean, must_be="true or false", default=True
    )

    # Credits.
    credit_system_enabled: bool = _variable(
        "CREDIT_SYSTEM_ENABLED", parse=variables.boolean, must_be="true or false", default=True
    )
    credit_cache_seconds: int = _variable(
        "CREDIT_CACHE_TTL",
        parse=variables.integer(0, 86_400),
        must_be="seconds, 0 to 86400",
        default=60,
    )
    credit_cache_url: str | None = _variable(
        "CREDIT_CACHE_URL",
        parse=variables.redis_url,
        must_be="a URL like rediss://user:password@host:6379/0 (redis only for a private host)",
        secret=True,
    )
    openrouter_api_base_url: str = _variable(
        "OPENROUTER_API_BASE_URL",
        parse=variables.service_url,
        must_be=variables.SERVICE_URL,
        default="https://openrouter.ai/api/v1",
    )
    encryption_key: str | None = _variable(
        "ENCRYPTION_KEY",
        parse=variables.fernet_key,
        must_be="a Fernet key: 32 bytes in URL-safe base64",
        secret=True,
    )
    encryption_keys_previous: tuple[str, ...] = _variable(
        "ENCRYPTION_KEYS_PREVIOUS",
        parse=variables.fernet_keys,
        must_be="a comma list or a JSON object name -> key, each a Fernet key",
        default=(),
        secret=True,
    )

    # Tenants: how many Prometheus is told of by name.
    metrics_tenants: int = _variable(
        "TALLYBOOK_METRICS_TENANTS",
        parse=variables.integer(0, 10_000),
        must_be="how many tenants have metrics of their own, 0 to 10000",
        default=1_000,
    )
    metrics_wallets: int = _variable(
        "TALLYBOOK_METRICS_WALLETS",
        parse=variables.integer(0, 10_000),
        must_be="how many wallets have a metric of their own, 0 to 10000",
        default=0,
    )

    # This process.
    environment: Literal["production", "development"] = _variable(
        "ENVIRONMENT",
        parse=variables.one_of("production", "development"),
        must_be="production or development",
        default="production",
    )
    client_address: str | None = _variable(
        "TALLYBOOK_CLIENT_ADDRESS",
        parse=variables.header_name,
        must_be="peer, or the header that your proxy writes the client's address into",
    )
    trusted_hops: int = _variable(
        "TALLYBOOK_TRUSTED_HOPS",
        parse=variables.integer(1, 10),
        must_be="how many of your proxies add to that header, 1 to 10",
        default=1,
    )
    cors_origins: tuple[str, ...] = _variable(
        "TALLYBOOK_CORS_ORIGINS",
        parse=variables.origins,
        must_be="a comma list of origins like https://app.example.com, or * alone",
        default=(),
    )
    log_level: Literal["debug", "info", "warning", "error"] = _variable(
        "TALLYBOOK_LOG_LEVEL",
        parse=variables.one_of("debug", "info", "warning", "error"),
        must_be="debug, info, warning or error",
        default="info",
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read every variable; raises ConfigurationError that names the one at fault."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            found = field.metadata["variable"].read(environ)
            if found is not None:
                values[field.name] = found
        settings = cls(**values)
        settings._refuse_half_a_feature()
        return settings

    def require(self, *names: str) -> Self:
        """Demand what the caller cannot start without, by the variables' names.

        "A|B" is met by either. Raises ConfigurationError with every missing name at once.
        """
        known = {
            name: field
            for field in dataclasses.fields(self)
            for name in field.metadata["variable"].names
        }
        missing = [
            " or ".join(alternatives)
            for alternatives in (name.split("|") for name in names)
            if all(getattr(self, known[name].name) in (None, ()) for name in alternatives)
        ]
        if missing:
            raise ConfigurationError("; ".join(missing), "set")
        return self

    @property
    def key_set_url(self) -> str | None:
        """Where public keys are fetched: as configured, else where a Supabase project has them.

        None when the keys were given inline and no URL was, so that nothing is fetched then.
        """
        if self.jwks_url or self.jwks is not None or not self.supabase_url:
            return self.jwks_url
        return f"{self.supabase_url}/auth/v1/.well-known/jwks.json"

    def _refuse_half_a_feature(self) -> None:
        if self.transport == "postgrest":
            self.require(
                "SUPABASE_URL",
                "SUPABASE_SECRET_KEY|SUPABASE_SECRET_KEYS|SUPABASE_SERVICE_ROLE_KEY",
            )
        if self.jwt_issuer:
            self.require("SUPABASE_JWKS|SUPABASE_JWKS_URL|SUPABASE_JWT_SECRET|SUPABASE_URL")
        if self.trusted_hops > 1:
            self.require("TALLYBOOK_CLIENT_ADDRESS")
        if self.coupon_secrets_previous:
            self.require("COUPON_SECRET")
        if self.encryption_keys_previous:
            self.require("ENCRYPTION_KEY")
        # Google opens a token for its service account, and we do with the console's two keys.
        keys = ("PLAY_INTEGRITY_DECRYPTION_KEY", "PLAY_INTEGRITY_VERIFICATION_KEY")
        play = (
            "PLAY_INTEGRITY_PROJECT_NUMBER",
            "PLAY_INTEGRITY_PACKAGE_NAME",
            "PLAY_INTEGRITY_CERTIFICATE_SHA256",
            f"PLAY_INTEGRITY_SERVICE_ACCOUNT|{keys[0]}",
        )
        apple = ("APP_ATTEST_TEAM_ID", "APP_ATTEST_BUNDLE_ID")
        for feature, options in (
            (keys, ()),
            (play, ("PLAY_INTEGRITY_DAILY_DECODES",)),
            (apple, ("APP_ATTEST_ENVIRONMENTS",)),
        ):
            if any(self._has(name) for names in (*feature, *options) for name in names.split("|")):
                self.require(*feature)

    def _has(self, name: str) -> bool:
        return any(
            name in field.metadata["variable"].names
            and getattr(self, field.name) not in (None, field.default)
            for field in dataclasses.fields(self)
        )
