"""The statements of a log in PostgreSQL, each prepared once in a connection. `study` stands first in every key.

The newest records are looked up by an index each, so that their cost does not grow with the log.
"""

from __future__ import annotations

from functools import cache

from allocator.postgres_batch import Statement

PAGE = 1_000  # rows read at a time
_COLUMNS = "seq, prev, body, kind, participant, stratum, position"
_RECORD = f"SELECT {_COLUMNS} FROM allocator.record WHERE study = $1"
BEGIN = Statement("begin", "BEGIN")  # READ COMMITTED READ WRITE, as `postgres_connection` sets the session
# What makes a commit durable is looked at in each turn: an administrator may change it at any time.
_DURABLE = "current_setting('fsync'), current_setting('full_page_writes')"
TURN = Statement("turn", f"SELECT {_DURABLE} FROM allocator.study WHERE study = $1 FOR UPDATE")
LAST = Statement("last", f"{_RECORD} ORDER BY seq DESC LIMIT 1")
PLACE = Statement("place", f"{_RECORD} AND seq = $2")
# Bounded by places, not by LIMIT: without statistics of the table a LIMIT may be met by sorting all there is.
SINCE = Statement("since", f"{_RECORD} AND seq >= $2 AND seq < $2 + {PAGE} ORDER BY seq")
BETWEEN = Statement("between", f"{_RECORD} AND seq >= $2 AND seq <= $3 ORDER BY seq")
END = Statement("end", "SELECT max(seq) FROM allocator.record WHERE study = $1")
# The newest record of each kind asked for: one index look-up a kind.
OF_LOG = Statement(
    "of_log",
    f"""SELECT newest.* FROM unnest(string_to_array($2, ' ')) AS asked (of_kind) CROSS JOIN LATERAL
    ({_RECORD} AND kind = of_kind ORDER BY seq DESC LIMIT 1) AS newest""",
)
# The newest record of each kind of a participant, of a position: few, all that there are.
_OF_OWNER = f"SELECT DISTINCT ON (kind) {_COLUMNS} FROM allocator.record WHERE study = $1"
OF_PARTICIPANT = Statement("of_participant", f"{_OF_OWNER} AND participant = $2 ORDER BY kind, seq DESC")
OF_POSITION = Statement("of_position", f"{_OF_OWNER} AND stratum = $2 AND position = $3 ORDER BY kind, seq DESC")
# What a reveal asks beside: of the position bound to the participant, and the answers on which they were confirmed.
_BOUND = "FROM allocator.record WHERE study = $1 AND participant = $2 AND kind = 'confirmed' ORDER BY seq DESC LIMIT 1"
OF_BOUND_POSITION = Statement(
    "of_bound_position",
    f"{_OF_OWNER} AND (stratum, position) = (SELECT stratum, position {_BOUND}) ORDER BY kind, seq DESC",
)
BOUND_DETAILS = Statement(
    "bound_details",
    f"SELECT field, salt, value, seq FROM allocator.detail WHERE study = $1 AND seq = (SELECT seq {_BOUND})",
)
HELD = Statement(
    "held",
    """SELECT count(*) FROM (
    SELECT position, row_number() OVER (ORDER BY position) AS number FROM allocator.record
    WHERE kind IN ('allocated', 'late', 'receipt-entered') AND study = $1 AND stratum = $2 AND position >= $3) AS held
    WHERE position = $3 + number - 1""",
)
INSERT = Statement(
    "insert",
    f"INSERT INTO allocator.record (study, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
)
DETAIL = Statement(
    "detail", "INSERT INTO allocator.detail (study, seq, field, salt, value) VALUES ($1, $2, $3, $4, $5)"
)
DETAILS = Statement("details", "SELECT field, salt, value FROM allocator.detail WHERE study = $1 AND seq = $2")
STUDY = Statement("study", "SELECT study FROM allocator.study WHERE study = $1")
COMMIT = Statement("commit", "COMMIT")


@cache
def page(size: int, of_kinds: bool, of_participant: bool) -> Statement:
    """A page of some kinds, each by its own index look-up; of a participant, who has few; or both."""
    where = "study = $1 AND seq >= $2 AND seq <= $3"
    if of_participant:
        where += f" AND participant = ${5 if of_kinds else 4}"
    rows = f"SELECT {_COLUMNS} FROM allocator.record WHERE {where}"
    if of_kinds:
        rows = f"""SELECT own.* FROM unnest(string_to_array($4, ' ')) AS asked (of_kind)
        CROSS JOIN LATERAL ({rows} AND kind = of_kind ORDER BY seq LIMIT {size}) AS own"""
    name = f"page_{size}{'_of_kinds' * of_kinds}{'_of_participant' * of_participant}"
    # + 0: or the whole log might be read in order for them
    return Statement(name, f"SELECT * FROM ({rows}) AS page ORDER BY seq + 0 LIMIT {size}")
