#!/usr/bin/env bash
# Brings the credit system to a database: checks what it needs, takes a backup, applies the pending
# migrations and looks whether everything is there. All of it is one transaction, so what fails has
# changed nothing; the backup is for what nobody thought of (docs/credits.md tells how to use it).
#
#   DATABASE_URL   where to; the role must be allowed to create schemas and roles
#   ENVIRONMENT    production (the default) or development, which also brings two codes to try
#   BACKUP_DIR     where the backups go, /tmp/ops-center-backups by default
#   ENV_FILE       a file to be backed up with them when it exists, .env.auth by default
#   TALLYBOOK      the command, when it is not on the path and not in .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TABLES=(user_credits credit_transactions openrouter_accounts coupon_codes usage_events)
INDEXES=(
    idx_user_credits_tier idx_user_credits_lots_due idx_user_credits_allocation_due
    idx_credit_transactions_user_created idx_credit_transactions_user_type
    idx_credit_transactions_key idx_credit_transactions_refund_of idx_credit_transactions_created
    idx_openrouter_accounts_key_id idx_openrouter_accounts_synced
    idx_coupon_codes_created idx_coupon_codes_expires
    idx_usage_events_user_created idx_usage_events_payload idx_usage_events_transaction
    idx_usage_events_created idx_usage_events_failed
)
INDEXES+=("${TABLES[@]/%/_pkey}")

BACKUP_DIR=${BACKUP_DIR:-/tmp/ops-center-backups}
ENV_FILE=${ENV_FILE:-.env.auth}
ENVIRONMENT=${ENVIRONMENT:-production}
TIMESTAMP=$(date +%Y%m%d_%H%M%S)

info() { echo "[INFO] $*"; }
success() { echo "[SUCCESS] $*"; }
warning() { echo "[WARNING] $*"; }
fail() {
    echo "[ERROR] $*" >&2
    exit 1
}

sql() { psql --dbname "$DATABASE_URL" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

has() { [ "$(sql --command "select to_regclass('public.$1') is not null")" = t ]; }

check_prerequisites() {
    info "Checking prerequisites..."
    [ -n "${DATABASE_URL:-}" ] || fail "DATABASE_URL must be set."
    case $ENVIRONMENT in
        production | development) ;;
        *) fail "ENVIRONMENT must be production or development." ;;
    esac
    TALLYBOOK=${TALLYBOOK:-$(command -v tallybook || echo .venv/bin/tallybook)}
    for program in psql pg_dump "$TALLYBOOK"; do
        command -v "$program" >/dev/null || fail "$program cannot be found."
    done
    local version
    version=$(sql --command "show server_version_num") || fail "The database cannot be reached."
    [ "$version" -ge 150000 ] || fail "The database must be PostgreSQL 15 or newer."
    success "Prerequisites check passed"
}

take_backup() {
    info "Creating database backup..."
    local backup="$BACKUP_DIR/pre_epic_1.8_backup_$TIMESTAMP.sql"
    # What is in it is for nobody else to read.
    (umask 077 && mkdir -p "$BACKUP_DIR" && pg_dump --dbname "$DATABASE_URL" --file "$backup") \
        || fail "There is no backup, so nothing was changed."
    if [ -f "$ENV_FILE" ]; then
        (umask 077 && cp "$ENV_FILE" "$ENV_FILE.backup.$TIMESTAMP")
    fi
    success "Backup created: $backup"
}

apply_migration() {
    info "Applying credit system migration..."
    local required=() name
    for name in "${TABLES[@]}" "${INDEXES[@]}"; do
        required+=(--require "public.$name")
    done
    if ! "$TALLYBOOK" migrate up "${required[@]}" >/dev/null; then
        warning "Rolling back migration..."
        # The transaction has done it. This looks whether it has.
        for name in "${TABLES[@]}"; do
            if [[ " $present " != *" $name "* ]] && has "$name"; then
                fail "Table '$name' was left behind; see docs/credits.md for how to use the backup."
            fi
        done
        success "Rollback completed successfully"
        exit 1
    fi
    success "Migration applied successfully"
}

verify() {
    local name
    info "Verifying tables..."
    for name in "${TABLES[@]}"; do
        has "$name" || fail "Table '$name' is missing."
        success "✓ Table '$name' exists"
    done
    success "All tables verified"
    info "Verifying indexes..."
    for name in "${INDEXES[@]}"; do
        has "$name" || fail "Index '$name' is missing."
    done
}

# Two public codes to try things with. They are worth something, so production does not get them.
bring_codes() {
    [ "$ENVIRONMENT" = development ] || return 0
    sql <<'SQL'
insert into coupon_codes (code, discount_type, discount_value, max_uses, expires_at)
values ('WELCOME100', 'fixed', 100.00, 1000, now() + interval '30 days'),
       ('SAVE50', 'percentage', 50, 500, now() + interval '60 days')
on conflict (code) do nothing;
SQL
}

cat <<'BANNER'
==========================================
  Epic 1.8 Credit System Migration
==========================================

BANNER
check_prerequisites
present=$(for name in "${TABLES[@]}"; do ! has "$name" || echo "$name"; done | tr '\n' ' ')
take_backup
apply_migration
verify
bring_codes
success "Migration completed successfully!"
