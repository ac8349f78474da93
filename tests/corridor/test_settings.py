"""The environment: what is read, what is refused at start, and that no secret is shown."""

from __future__ import annotations

import base64
import json
import traceback

import pytest

from tallybook.settings import ConfigurationError, Settings

CANARY = "canary-7f3a" + "x" * 40


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256'})}.{part(claims)}.c2lnbmF0dXJl"


def test_nothing_set_gives_the_defaults():
    settings = read()
    assert settings == Settings()
    assert settings.transport == "psycopg"
    assert settings.environment == "production"
    assert settings.credit_system_enabled is True
    assert settings.points_allocation_enabled is True
    assert settings.credit_cache_seconds == 60
    assert settings.cors_origins == ()


def test_the_mission_s_names_work():
    settings = read(
        SUPABASE_URL="https://abc.supabase.co/",
        SUPABASE_ANON_KEY=jwt(role="anon"),
        SUPABASE_SERVICE_ROLE_KEY=jwt(role="service_role"),
        COUPON_SECRET="s" * 32,
        DATABASE_URL="postgresql://u:p@db:5432/postgres",
        CREDIT_SYSTEM_ENABLED="false",
        POINTS_ALLOCATION_ENABLED="false",
        CREDIT_CACHE_TTL="5",
        OPENROUTER_API_BASE_URL="https://openrouter.example/api/v1",
        ENCRYPTION_KEY=base64.urlsafe_b64encode(bytes(32)).decode(),
    )
    assert settings.supabase_url == "https://abc.supabase.co"
    assert settings.anon_key == jwt(role="anon")
    assert settings.service_role_key == jwt(role="service_role")
    assert settings.coupon_secret == "s" * 32
    assert settings.database_url == "postgresql://u:p@db:5432/postgres"
    assert settings.credit_system_enabled is False
    assert settings.points_allocation_enabled is False
    assert settings.credit_cache_seconds == 5


def test_database_url_has_a_second_name():
    url = "postgres://u@db/x"
    assert read(SUPABASE_DB_URL=url).database_url == url
    both = read(SUPABASE_DB_URL=url, DATABASE_URL="postgres://u@db/y")
    assert both.database_url == "postgres://u@db/y"


@pytest.mark.parametrize(
    "value",
    [
        '{"default":"sb_publishable_one","mobile":"sb_publishable_two"}',
        '["sb_publishable_one","sb_publishable_two"]',
        "sb_publishable_one, sb_publishable_two,",
    ],
)
def test_api_keys_come_as_an_object_or_a_list(value):
    keys = read(SUPABASE_PUBLISHABLE_KEYS=value).publishable_keys
    assert keys == ("sb_publishable_one", "sb_publishable_two")


def test_api_keys_under_both_names_all_count():
    keys = read(
        SUPABASE_SECRET_KEYS='{"default":"sb_secret_aaaaaaaaaaaaaaaa"}',
        SUPABASE_SECRET_KEY="sb_secret_bbbbbbbbbbbbbbbb",
    ).secret_keys
    assert keys == ("sb_secret_aaaaaaaaaaaaaaaa", "sb_secret_bbbbbbbbbbbbbbbb")


def test_an_empty_variable_is_an_unset_one():
    assert read(COUPON_SECRET=" ", SUPABASE_JWKS="") == Settings()


def test_a_project_s_key_set_is_found_from_its_url():
    found = "https://abc.supabase.co/auth/v1/.well-known/jwks.json"
    assert read(SUPABASE_URL="https://abc.supabase.co").key_set_url == found
    inline = read(SUPABASE_URL="https://abc.supabase.co", SUPABASE_JWKS='{"keys":[]}')
    assert inline.key_set_url is None
    assert inline.jwks == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COUPON_SECRET", "s" * 31),
        ("COUPON_SECRETS_PREVIOUS", "s" * 32 + ",short"),
        ("SUPABASE_JWT_SECRET", "s" * 31),
        ("SUPABASE_JWT_SECRET", "-----BEGIN PUBLIC KEY-----" + "A" * 80),
        ("SUPABASE_JWKS", "{}"),
        ("SUPABASE_JWKS", "not json"),
        ("SUPABASE_JWKS", '{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"c"}]}'),
        ("SUPABASE_JWKS_URL", "ftp://keys.example.com/jwks"),
        ("SUPABASE_JWKS_URL", "http://keys.example.com/jwks"),
        ("SUPABASE_JWKS_URL", "http://8.8.8.8/jwks"),
        ("SUPABASE_URL", "abc.supabase.co"),
        ("SUPABASE_PUBLISHABLE_KEY", "sb_secret_aaaaaaaaaaaaaaaa"),
        ("SUPABASE_PUBLISHABLE_KEYS", '{"default":1}'),
        ("SUPABASE_PUBLISHABLE_KEYS", "{}"),
        ("SUPABASE_SECRET_KEY", "sb_publishable_aaaaaaaaaaaaaaaa"),
        ("SUPABASE_SECRET_KEYS", "sb_secret_short"),
        ("SUPABASE_ANON_KEY", "your-key"),
        ("SUPABASE_ANON_KEY", jwt(role="service_role")),
        ("SUPABASE_ANON_KEY", "sb_secret_aaaaaaaaaaaaaaaa"),
        ("SUPABASE_SERVICE_ROLE_KEY", jwt(role="anon")),
        ("SUPABASE_SERVICE_ROLE_KEY", "a.%%%.c"),
        ("DATABASE_URL", "mysql://u@db/x"),
        ("TALLYBOOK_TRANSPORT", "carrier-pigeon"),
        ("TALLYBOOK_CORS_ORIGINS", "*,https://a.example"),
        ("TALLYBOOK_CORS_ORIGINS", "https://a.example/path"),
        ("TALLYBOOK_LOG_LEVEL", "loud"),
        ("TALLYBOOK_CLIENT_ADDRESS", "x-forwarded-for, x-real-ip"),
        ("TALLYBOOK_TRUSTED_HOPS", "00"),
        ("TALLYBOOK_TRUSTED_HOPS", "all of them"),
        ("CREDIT_SYSTEM_ENABLED", "perhaps"),
        ("CREDIT_CACHE_TTL", "-1"),
        ("CREDIT_CACHE_TTL", "soon"),
        ("TALLYBOOK_METRICS_TENANTS", "all"),
        ("TALLYBOOK_METRICS_WALLETS", "10001"),
        ("ENCRYPTION_KEY", "AAAA"),
        ("ENVIRONMENT", "staging-ish"),
        ("PLAY_INTEGRITY_PROJECT_NUMBER", "12ab"),
        ("PLAY_INTEGRITY_DAILY_DECODES", "0"),
        ("APP_ATTEST_ENVIRONMENTS", "production,sandbox"),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_kept_quiet(name, value):
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})
    assert caught.value.name == name
    shown = "".join(traceback.format_exception(caught.value))
    assert name in str(caught.value)
    assert value not in str(caught.value)
    # Neither does a chained exception carry it.
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert f"ConfigurationError: {caught.value}" in shown


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:54321",
        "http://localhost:54321",
        "http://[::1]:54321",
        "http://10.0.0.7",
        "http://kong:8000",
        "http://auth.internal",
        "https://abc.supabase.co",
    ],
)
def test_plain_http_is_for_private_hosts(url):
    assert read(SUPABASE_URL=url).supabase_url == url


def test_origins_are_a_list():
    origins = read(TALLYBOOK_CORS_ORIGINS="https://a.example/, http://localhost:3000").cors_origins
    assert origins == ("https://a.example", "http://localhost:3000")
    assert read(TALLYBOOK_CORS_ORIGINS="*").cors_origins == ("*",)


def test_an_address_is_known_by_the_peer_or_by_a_header():
    assert (read().client_address, read().trusted_hops) == (None, 1)
    assert read(TALLYBOOK_CLIENT_ADDRESS="peer").client_address == "peer"
    settings = read(TALLYBOOK_CLIENT_ADDRESS="X-Forwarded-For", TALLYBOOK_TRUSTED_HOPS="2")
    assert (settings.client_address, settings.trusted_hops) == ("x-forwarded-for", 2)


def test_secrets_do_not_show():
    settings = read(
        COUPON_SECRET=CANARY,
        COUPON_SECRETS_PREVIOUS=json.dumps({"2024": CANARY}),
        SUPABASE_JWT_SECRET=CANARY,
        SUPABASE_SECRET_KEYS=f"sb_secret_{CANARY}",
        SUPABASE_SERVICE_ROLE_KEY=f"sb_secret_{CANARY}",
        DATABASE_URL=f"postgresql://u:{CANARY}@db/x",
        PLAY_INTEGRITY_PROJECT_NUMBER="1",
        PLAY_INTEGRITY_PACKAGE_NAME="com.example",
        PLAY_INTEGRITY_CERTIFICATE_SHA256="d" * 64,
        PLAY_INTEGRITY_SERVICE_ACCOUNT=CANARY,
        PLAY_INTEGRITY_DECRYPTION_KEY=CANARY,
        PLAY_INTEGRITY_VERIFICATION_KEY="public",
    )
    assert settings.coupon_secret == CANARY
    assert settings.coupon_secrets_previous == (CANARY,)
    assert CANARY not in repr(settings) and CANARY not in str(settings)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"PLAY_INTEGRITY_PROJECT_NUMBER": "1"}, "PLAY_INTEGRITY_PACKAGE_NAME"),
        ({"PLAY_INTEGRITY_PROJECT_NUMBER": "1"}, "PLAY_INTEGRITY_CERTIFICATE_SHA256"),
        ({"PLAY_INTEGRITY_PROJECT_NUMBER": "1"}, "PLAY_INTEGRITY_SERVICE_ACCOUNT"),
        ({"PLAY_INTEGRITY_CERTIFICATE_SHA256": "d"}, "PLAY_INTEGRITY_PROJECT_NUMBER"),
        ({"PLAY_INTEGRITY_DECRYPTION_KEY": "d"}, "PLAY_INTEGRITY_VERIFICATION_KEY"),
        ({"PLAY_INTEGRITY_DAILY_DECODES": "9"}, "PLAY_INTEGRITY_PROJECT_NUMBER"),
        ({"APP_ATTEST_ENVIRONMENTS": "development"}, "APP_ATTEST_TEAM_ID"),
        ({"PLAY_INTEGRITY_VERIFICATION_KEY": "d"}, "PLAY_INTEGRITY_DECRYPTION_KEY"),
        ({"APP_ATTEST_TEAM_ID": "T"}, "APP_ATTEST_BUNDLE_ID"),
        ({"APP_ATTEST_BUNDLE_ID": "com.example"}, "APP_ATTEST_TEAM_ID"),
        ({"TALLYBOOK_TRANSPORT": "postgrest"}, "SUPABASE_URL"),
        (
            {"TALLYBOOK_TRANSPORT": "postgrest", "SUPABASE_URL": "https://a.supabase.co"},
            "SUPABASE_SECRET_KEY",
        ),
        ({"COUPON_SECRETS_PREVIOUS": "s" * 32}, "COUPON_SECRET"),
        ({"TALLYBOOK_TRUSTED_HOPS": "2"}, "TALLYBOOK_CLIENT_ADDRESS"),
        ({"SUPABASE_JWT_ISSUER": "https://a/auth/v1"}, "SUPABASE_JWKS_URL"),
    ],
)
def test_half_a_feature_does_not_start(environ, missing):
    with pytest.raises(ConfigurationError) as caught:
        read(**environ)
    assert missing in caught.value.name


def test_require_names_all_that_is_missing():
    settings = read(SUPABASE_DB_URL="postgres://u@db/x")
    assert settings.require("DATABASE_URL", "SUPABASE_JWKS|DATABASE_URL") is settings
    with pytest.raises(ConfigurationError) as caught:
        settings.require("DATABASE_URL", "COUPON_SECRET", "SUPABASE_JWKS|SUPABASE_JWT_SECRET")
    assert caught.value.name == "COUPON_SECRET; SUPABASE_JWKS or SUPABASE_JWT_SECRET"


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        read().transport = "postgrest"  # type: ignore[misc]
