#!/bin/sh
# Restores this PostgreSQL backup with nothing but sh, coreutils and psql.
#
#   sh restore.sh postgres://user@host:port/DATABASE
#
# The password comes from PGPASSWORD or ~/.pgpass. The database is created if it does not exist; if it does, it must be
# empty. Roles that own or are granted something and are missing are created without login and without password.
set -u
LC_ALL=C
export LC_ALL

die() {
    printf 'restore.sh: %s\n' "$*" >&2
    exit 1
}
say() {
    printf '%s\n' "$*" >&2
}

[ $# -eq 1 ] || die "usage: sh restore.sh postgres://user@host:port/DATABASE"
url=$1
here=$(dirname -- "$0")
cd -- "$here" || die "cannot enter the folder of this script"
[ -f COMPLETE ] || die "COMPLETE is missing: this backup was not unpacked to its end"

case $url in
    postgres://*|postgresql://*) ;;
    *) die "the URL must begin with postgres://" ;;
esac
scheme=${url%%://*}
rest=${url#*://}
query=
case $rest in *\?*) query="?${rest#*\?}"; rest=${rest%%\?*} ;; esac
authority=${rest%%/*}
case $rest in */*) name=${rest#*/} ;; *) name= ;; esac
[ -n "$name" ] || die "the URL names no database"
case $authority in
    *@*) case ${authority%@*} in *:*) die "the URL holds a password; use PGPASSWORD or ~/.pgpass" ;; esac ;;
esac
case $query in *password=*) die "the URL holds a password; use PGPASSWORD or ~/.pgpass" ;; esac
case $query in *dbname=*) die "name the database in the URL's path" ;; esac
command -v psql >/dev/null 2>&1 || die "psql is not installed (package postgresql-client)"

# Percent-encoded names mean what they say. One letter at a time, by octal digits: all that every POSIX shell can.
target=
left=$name
while :; do
    target=$target${left%%%*}
    case $left in
        *%*) left=${left#*%} ;;
        *) break ;;
    esac
    case $left in
        [0-9A-Fa-f][0-9A-Fa-f]*) ;;
        *) die "the URL holds a % that is not followed by two hexadecimal digits" ;;
    esac
    code=$(printf '%.2s' "$left")
    left=${left#??}
    # The dot keeps a line end, which a shell would cut off.
    letter=$(printf "\\$(printf '%03o' "0x$code").")
    target=$target${letter%.}
done

PGCLIENTENCODING=UTF8
PGAPPNAME=restore.sh
PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning -c default_transaction_read_only=off -c statement_timeout=0"
export PGCLIENTENCODING PGAPPNAME PGOPTIONS
work=$(mktemp -d) || die "no temporary folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

run() {
    psql -X -q -v ON_ERROR_STOP=1 "$@"
}
maintenance=$scheme://$authority/postgres$query
psql -X -q -A -t -c 'SELECT 1' -d "$maintenance" >/dev/null 2>"$work/error" \
    || maintenance=$scheme://$authority/template1$query

# 1. Roles and the database.
run -d "$maintenance" -f roles.sql >/dev/null || die "roles could not be created; nothing was restored"
printf '%s\n' "SELECT count(*) FROM pg_catalog.pg_database WHERE datname = :'target';" >"$work/exists.sql"
exists=$(run -A -t -v "target=$target" -d "$maintenance" -f "$work/exists.sql") || die "cannot connect to the server"
if [ "$exists" = 0 ]; then
    say "creating database $target"
    run -v create=1 -v "target=$target" -d "$maintenance" -f database.sql || die "the database could not be created"
else
    cat >"$work/empty.sql" <<'SQL'
SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384 AND relpersistence <> 't')
     + (SELECT count(*) FROM pg_catalog.pg_proc WHERE oid >= 16384)
     + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata);
SQL
    filled=$(run -A -t -d "$url" -f "$work/empty.sql") || die "cannot connect to $target"
    [ "$filled" = 0 ] || die "database $target is not empty; nothing was restored"
fi

# 2. Tables without indexes.
say "creating tables"
run -d "$url" -f schema/pre-data.sql >/dev/null || die "the tables could not be created; database $target is incomplete"
run -d "$url" -f schema/before-rows.sql >/dev/null || die "constraints could not be set aside; database $target is incomplete"

# 3. Rows. A table whose rows need another table's rows first is tried again while there is progress.
say "loading rows"
tab=$(printf '\t')
encoding=$(cat data/encoding) || die "data/encoding is missing"
load() {
    list=
    [ "$3" = - ] || list=" ($(printf '%b' "$3"))"
    statement="COPY $(printf '%b' "$2")$list FROM STDIN (ENCODING '$encoding')"
    PGOPTIONS="$PGOPTIONS -c row_security=off -c search_path=$4" \
        psql -X -q -v ON_ERROR_STOP=1 -d "$url" -c "$statement" <"$1" >/dev/null 2>"$work/error"
}
PGOPTIONS="$PGOPTIONS -c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c array_nulls=on -c xmloption=content"
cp data/index.tsv "$work/todo" || die "data/index.tsv is missing"
path=
while [ -s "$work/todo" ]; do
    : >"$work/failed"
    : >"$work/errors"
    loaded=0
    while IFS="$tab" read -r file table columns rows; do
        if load "$file" "$table" "$columns" "$path"; then
            loaded=$((loaded + 1))
        else
            while IFS= read -r line; do printf '%s: %s\n' "${file##*/}" "$line"; done <"$work/error" >>"$work/errors"
            printf '%s\t%s\t%s\t%s\n' "$file" "$table" "$columns" "$rows" >>"$work/failed"
        fi
    done <"$work/todo"
    if [ -s "$work/failed" ] && [ "$loaded" -eq 0 ] && [ -z "$path" ] && [ -s data/search_path ]; then
        # What still fails may call functions that only work with the application's own search path.
        path=$(cat data/search_path)
    elif [ -s "$work/failed" ] && [ "$loaded" -eq 0 ]; then
        cat "$work/errors" >&2
        die "rows could not be loaded; database $target is incomplete"
    fi
    mv "$work/failed" "$work/todo"
done

# 4. Sequences and large objects.
run -d "$url" -f sequences.sql >/dev/null || die "sequences could not be set; database $target is incomplete"
if [ -f large-objects/index.tsv ]; then
    say "loading large objects"
    while IFS="$tab" read -r file oid; do
        printf 'BEGIN;\nSELECT pg_catalog.lo_create(%s);\n' "$oid" >"$work/object.sql"
        piece=0
        while :; do
            dd if="$file" of="$work/piece" bs=65536 skip="$piece" count=1 2>/dev/null || die "cannot read $file"
            [ -s "$work/piece" ] || break
            od -An -v -tx1 "$work/piece" >"$work/hex" || die "cannot read $file"
            tr -d ' \n' <"$work/hex" >"$work/digits" || die "cannot read $file"
            printf "SELECT pg_catalog.lo_put(%s, %s, pg_catalog.decode('" "$oid" "$((piece * 65536))" >>"$work/object.sql"
            cat "$work/digits" >>"$work/object.sql" || die "cannot write to $work"
            printf "', 'hex'));\n" >>"$work/object.sql" || die "cannot write to $work"
            piece=$((piece + 1))
        done
        printf 'COMMIT;\n' >>"$work/object.sql"
        run -d "$url" -f "$work/object.sql" >/dev/null || die "large object $oid could not be loaded; $target is incomplete"
    done <large-objects/index.tsv
    run -d "$url" -f large-objects/objects.sql >/dev/null || die "large objects' owners could not be set"
fi

# 5. Indexes, constraints, triggers; then grants, materialized views, event triggers; the database's settings last.
say "creating indexes and constraints"
run -d "$url" -f schema/post-data.sql >/dev/null || die "indexes or constraints could not be created; all rows are in $target"
run -d "$url" -c ANALYZE >/dev/null 2>&1 || say "note: ANALYZE did not run through"
run -d "$url" -f schema/after-rows.sql >/dev/null || die "constraints could not be put back; all rows are in $target"
run -d "$url" -f schema/grants.sql >/dev/null || die "grants could not be restored; all rows are in $target"
# A view may read another one through a function, which no order tells: again while fewer fail, at last with the path.
before=
views=schema/refresh.sql
while :; do
    psql -X -q -d "$url" -f "$views" >/dev/null 2>"$work/error" || die "cannot connect to $target"
    failed=0
    while IFS= read -r line; do
        case $line in *ERROR:*) failed=$((failed + 1)) ;; esac
    done <"$work/error"
    [ "$failed" != 0 ] || break
    if [ "$failed" = "$before" ]; then
        [ "$views" = schema/refresh.sql ] || { cat "$work/error" >&2; die "views could not be refreshed; all rows are in $target"; }
        views=$work/refresh.sql
        while IFS= read -r line; do
            case $line in *"set_config('search_path"*) ;; *) printf '%s\n' "$line" ;; esac
        done <schema/refresh.sql >"$views" || die "cannot write to $work"
        PGOPTIONS="$PGOPTIONS -c search_path=$(cat data/search_path)"
    fi
    before=$failed
done
run -d "$url" -f schema/event-triggers.sql >/dev/null || die "event triggers could not be restored; all rows are in $target"

# 6. Does every table hold as many rows as it did?
run -d "$url" -f verify.sql >/dev/null || die "the restored rows are not those of the backup"
run -v create=0 -v "target=$target" -d "$url" -f database.sql >/dev/null || die "the database's settings could not be set; all rows are in"
say "restored into $target; every table holds the number of rows it had"
