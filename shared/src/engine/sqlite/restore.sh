#!/bin/sh
# Restores this SQLite backup with sh, coreutils and sqlite3 alone:
#     sh restore.sh sqlite:/path/to/new.db      (or just the path)
# The target must not exist, or be an empty file. Nothing bears its name before everything was checked.
set -eu
umask 077

fail() {
    echo "restore.sh: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: sh restore.sh sqlite:/path/to/new.db"
here=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd) || fail "cannot find my own folder"
[ -f "$here/COMPLETE" ] || fail "refused: there is no COMPLETE beside me: the backup was not unpacked to its end"
for part in database.sqlite verify.sql; do
    [ -f "$here/$part" ] || fail "refused: $part is missing: unpack the backup again"
done
command -v sqlite3 >/dev/null || fail "refused: sqlite3 is not installed"

target=$1
target=${target#sqlite:}
target=${target#//}
[ -n "$target" ] || fail "refused: no path given"
case $target in
    /*) ;;
    *) target=$(pwd)/$target ;;
esac
if [ -L "$target" ]; then
    target=$(readlink -f -- "$target") || fail "refused: the link $1 cannot be followed"
fi
[ ! -d "$target" ] || fail "refused: $target is a directory"
[ ! -s "$target" ] || fail "refused: $target exists and is not empty: it was not touched"
[ -d "$(dirname -- "$target")" ] || fail "refused: there is no directory $(dirname -- "$target")"
for suffix in -wal -journal -shm; do
    [ ! -e "$target$suffix" ] || fail "refused: $target$suffix lies there: SQLite would mix it into the restored
database. Move it away (it may hold the last changes of a lost database), then run this again"
done

# The first four lines of verify.sql say what to expect; without them nothing would be compared.
{
    IFS= read -r expected && IFS= read -r integrity && IFS= read -r bytes && IFS= read -r sum
} <"$here/verify.sql" || fail "refused: verify.sql is damaged"
expected=${expected#-- expect: }
integrity=${integrity#-- integrity: }
bytes=${bytes#-- bytes: }
sum=${sum#-- sha256: }
case $expected$integrity$bytes$sum in *--*) fail "refused: verify.sql is damaged" ;; esac
[ -n "$expected" ] && [ -n "$integrity" ] && [ -n "$bytes" ] && [ -n "$sum" ] || fail "refused: verify.sql is damaged"

new=$(mktemp -- "$target.restoring-XXXXXXXX") || fail "cannot write beside $target"
trap 'rm -f -- "$new" "$new-wal" "$new-shm" "$new-journal"' EXIT
trap 'exit 1' HUP INT TERM
cp -- "$here/database.sqlite" "$new" || fail "copying failed: nothing is left behind"
found=$(wc -c <"$new")
[ "$((found))" = "$bytes" ] || fail "database.sqlite has $((found)) bytes instead of $bytes: unpack the backup again"
found=$(sha256sum <"$new")
[ "${found%% *}" = "$sum" ] || fail "database.sqlite is damaged (another SHA-256): unpack the backup again"

# From here on the copy has the very bytes of the backup. Read-only, so that sqlite3 does not change them.
# Functions only the application has can stop the check.
found=$(sqlite3 -batch -bail -readonly "$new" 'PRAGMA integrity_check' 2>&1) || [ "$integrity" = 'known problems' ] ||
    fail "sqlite3 cannot read the copy: $found"
if [ "$found" != ok ]; then
    echo "restore.sh: note: integrity_check (at the backup: $integrity) says: $found" >&2
fi
found=$(sqlite3 -batch -bail -readonly "$new" <"$here/verify.sql") || fail "verify.sql failed: $found"
[ "$found" = "$expected" ] || fail "the copy is not what was backed up: $found (expected: $expected)"

# Reading a database in WAL mode makes these; with anything in them they must not be parted from it.
[ ! -s "$new-wal" ] && [ ! -s "$new-journal" ] || fail "sqlite3 left a log behind"
rm -f -- "$new-wal" "$new-shm" "$new-journal"
sync -- "$new" 2>/dev/null || sync
if [ -e "$target" ]; then
    [ ! -s "$target" ] || fail "refused: somebody else wrote $target meanwhile"
    mv -f -- "$new" "$target"
else
    # A hard link fails if somebody else made the target meanwhile; not every file system has them.
    ln -- "$new" "$target" 2>/dev/null || { [ ! -e "$target" ] && mv -- "$new" "$target"; } ||
        fail "refused: somebody else made $target meanwhile"
fi
echo "restored $target: $found"
