#!/bin/sh
# Restores a backup from this store without Holdfast. See RESTORE.md.
#   sh restore.sh                       lists the backups
#   sh restore.sh DATABASE/ID URL       restores one into a database that does not exist yet
#   sh restore.sh DATABASE/ID -o FILE   writes its archive
# POSIX sh; a pipe's status is that of its last command only, so no pipe is used where an earlier one could fail.
set -eu
umask 077

fail() {
    echo "restore.sh: $1" >&2
    exit 1
}

store=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd) || fail "cannot find my own folder"
tab=$(printf '\t')

if [ $# -eq 0 ]; then
    for manifest in "$store"/backups/*/*/manifest.tsv.gz; do
        [ -e "$manifest" ] || fail "there are no backups in $store"
        id=${manifest%/manifest.tsv.gz}
        echo "${id#"$store/backups/"}"
    done
    exit 0
fi
case "${2-}" in
    -o) [ $# -eq 3 ] || fail "usage: sh restore.sh DATABASE/ID -o FILE" ;;
    '') fail "usage: sh restore.sh DATABASE/ID URL   or   sh restore.sh DATABASE/ID -o FILE" ;;
esac

manifest="$store/backups/$1/manifest.tsv.gz"
[ -f "$manifest" ] || fail "there is no backup $1 in $store (sh restore.sh lists them)"

# TMPDIR must have room for the archive, unpacked, twice.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

gzip -dc "$manifest" > "$work/manifest" || fail "the manifest of $1 is damaged"
head -n -1 "$work/manifest" > "$work/body"
tail -n 1 "$work/manifest" > "$work/end"
IFS="$tab" read -r kind count sum < "$work/end"
# A later version may end otherwise; its number is what the reader must be told.
IFS="$tab" read -r first format version < "$work/manifest" || fail "the manifest of $1 is damaged"
[ "$first" != H ] || [ "$format" != format ] || [ "$version" = 1 ] \
    || fail "the manifest has format version $version, this script knows 1"
[ "$kind" = E ] || fail "the manifest of $1 is cut short"
[ "$(wc -l < "$work/body")" -eq "$count" ] || fail "the manifest of $1 is damaged: wrong number of lines"
printf '%s  body\n' "$sum" > "$work/check"
# Names without folders: sha256sum would want a backslash or a line end in them to be escaped.
(cd "$work" && sha256sum --quiet -c check) || fail "the manifest of $1 is damaged: wrong checksum"

codec=
packs=0
: > "$work/check"
while IFS="$tab" read -r kind a b c rest; do
    case $kind in
        H)
            [ "$a" != codec ] || codec=$b
            ;;
        P)
            case $a in *[!0-9a-f]* | '') fail "the manifest names an impossible pack" ;; esac
            path="packs/0/$(printf '%.2s' "$a")/$a"
            [ -f "$store/$path" ] || fail "pack $a is missing; backup $1 cannot be restored"
            eval "pack_$packs=\$path"
            packs=$((packs + 1))
            printf '%s  %s\n' "$c" "$path" >> "$work/check"
            ;;
    esac
done < "$work/body"
if [ -s "$work/check" ]; then
    (cd "$store" && sha256sum --quiet -c -) < "$work/check" || fail "a pack is damaged; nothing was restored"
fi

while IFS="$tab" read -r kind a b c rest; do
    case $kind in
        I) printf '%s' "$a" | base64 -d || fail "the manifest of $1 is damaged, or $work is full" ;;
        C)
            eval "path=\$pack_$a"
            dd if="$store/$path" bs=65536 iflag=skip_bytes,count_bytes skip="$b" count="$c" status=none \
                || fail "$path cannot be read, or $work is full"
            ;;
    esac
done < "$work/body" > "$work/archive"

if [ "$2" = -o ]; then
    [ ! -e "$3" ] || fail "$3 exists already"
    mv "$work/archive" "$3"
    exit 0
fi

case $codec in
    gzip) gzip -dc < "$work/archive" > "$work/archive.tar" || fail "the archive cannot be unpacked" ;;
    zstd) zstd -dcq < "$work/archive" > "$work/archive.tar" || fail "the archive cannot be unpacked" ;;
    *) fail "unknown codec '$codec'" ;;
esac
rm "$work/archive"
mkdir "$work/files"
tar -xf "$work/archive.tar" -C "$work/files" || fail "the archive cannot be unpacked"
rm "$work/archive.tar"
for folder in "$work"/files/*/; do
    sh "$folder/restore.sh" "$2"
done
