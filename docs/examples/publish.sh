#!/usr/bin/env bash
# An outbox with curl and SQLite's shell (3.38 or later): for a script, or for an API that keeps its data there.
#
#   publish.sh app.db                     publish what is in the outbox, until Ctrl-C
#   publish.sh app.db ada laptop v1 i1    change something, with its event
set -euo pipefail

url=${PUBLISH_URL:-http://127.0.0.1:42103}
batch=500           # events in a request
longest_pause=30000 # milliseconds between two attempts
database=$1
shift

query() {
    sqlite3 -batch -bail -cmd '.timeout 10000' "$database" "$1"
}

quoted() { # as a string of SQL
    printf "'%s'" "${1//\'/\'\'}"
}

query "PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, vault TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox_refused (body TEXT NOT NULL, reason TEXT NOT NULL);" >/dev/null

# The change and its event, in one transaction: both happen or neither does. The id is made once and stored.
create_item() {
    local user group vault item
    user=$(quoted "$1") group=$(quoted "$2") vault=$(quoted "$3") item=$(quoted "$4")
    query "BEGIN IMMEDIATE;
        INSERT INTO items (id, vault) VALUES ($item, $vault);
        INSERT INTO outbox (body) VALUES (json_object('event', 'item-create', 'user', $user, 'group', $group,
            'vault', $vault, 'data', json_object('id', $item), 'id', lower(hex(randomblob(16)))));
        COMMIT;"
}

# Publish the outbox in order, for ever. Only one process may do so.
publish() {
    local limit=$batch failures=0 work last count status reason index pause wanted
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # In a file that only we can read: the arguments of a command can be read by everybody on the machine.
    (umask 077 && printf 'Authorization: Bearer %s\n' "$LOCALFUL_WS_PUBLISHER_KEY" >"$work/key")
    while true; do
        last=$(query "SELECT max(position) FROM (SELECT position FROM outbox ORDER BY position LIMIT $limit)")
        if [ -z "$last" ]; then
            sleep 0.1
            continue
        fi
        count=$(query "SELECT count(*) FROM outbox WHERE position <= $last")
        query "SELECT '{\"events\": [' || group_concat(body, ',') || ']}'
            FROM (SELECT body FROM outbox WHERE position <= $last ORDER BY position)" >"$work/body"
        : >"$work/answer"
        : >"$work/head"
        status=$(curl --silent --max-time 10 --header "@$work/key" --data-binary "@$work/body" \
            --output "$work/answer" --dump-header "$work/head" --write-out '%{http_code}' "$url/v1/events") ||
            status=000
        reason="HTTP $status: $(cat "$work/answer")"
        case $reason in
        "HTTP 202: "*)
            query "DELETE FROM outbox WHERE position <= $last"
            limit=$((2 * limit > batch ? batch : 2 * limit)) failures=0
            ;;
        "HTTP 400: "* | "HTTP 413: "* | "HTTP 422: "* | "HTTP 503: "*'"too-many-revocations"'*)
            # The same again would be refused again; a `user-delete` that finds no room, for as long as a day.
            index=$(query "SELECT json_extract(CAST(readfile('$work/answer') AS TEXT), '\$.context.index')" 2>/dev/null || true)
            if [ -z "$index" ] && [ "$count" -eq 1 ]; then
                index=0
            fi
            if [ -z "$index" ]; then
                limit=$((count / 2)) # halves will tell
            else # kept for a person to look at; the others pass
                echo "set aside: $reason" >&2
                query "BEGIN IMMEDIATE;
                    CREATE TEMP TABLE refused AS SELECT position FROM outbox ORDER BY position LIMIT 1 OFFSET $index;
                    INSERT INTO outbox_refused SELECT body, $(quoted "$reason") FROM outbox
                        WHERE position IN (SELECT position FROM refused);
                    DELETE FROM outbox WHERE position IN (SELECT position FROM refused);
                    COMMIT;"
            fi
            ;;
        *) # not accepted, or nobody knows; the same events again, with the ids that they have
            pause=$((failures > 8 ? longest_pause : 100 << failures))
            pause=$((pause / 2 + RANDOM % (pause / 2 + 1)))
            wanted=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,3\}\)[^0-9]*$/\1/p' "$work/head")
            wanted=$((10#${wanted:-0} * 1000))
            wanted=$((wanted > longest_pause ? longest_pause : wanted))
            pause=$((wanted > pause ? wanted : pause))
            failures=$((failures + 1))
            echo "trying again: $reason" >&2
            sleep "$((pause / 1000)).$(printf '%03d' $((pause % 1000)))"
            ;;
        esac
    done
}

if [ "$#" -gt 0 ]; then
    create_item "$@"
else
    publish
fi
