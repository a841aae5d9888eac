-- The one schema of a study's log (docs/spec.md §12). `verify` holds every database to this text.
-- The triggers are guard rails against accidents: whoever owns the file can drop them. The hash chain is the security.

PRAGMA application_id = 1634495599; -- "allo"
PRAGMA user_version = 2;

-- One row a record. `prev` and `body` are the record; the other columns are a guard written by the same INSERT,
-- compared by `verify`, and never a source.
CREATE TABLE record (
    seq INTEGER PRIMARY KEY,
    prev BLOB NOT NULL CHECK (length(prev) = 32),
    body TEXT NOT NULL,
    kind TEXT NOT NULL,
    participant TEXT,
    stratum TEXT,
    position INTEGER
) STRICT;

-- Private details stand beside the body, which commits to each.
CREATE TABLE detail (
    seq INTEGER NOT NULL REFERENCES record (seq),
    field TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    value TEXT NOT NULL,
    PRIMARY KEY (seq, field)
) STRICT, WITHOUT ROWID;

CREATE INDEX record_of_kind ON record (kind);
CREATE INDEX record_of_participant ON record (participant, kind) WHERE participant IS NOT NULL;
CREATE INDEX record_of_position ON record (stratum, position, kind) WHERE position IS NOT NULL;

-- The second guard of "one allocation a position, one a participant": the first is the rules, under the lock.
CREATE UNIQUE INDEX one_allocation_a_position ON record (stratum, position)
WHERE kind IN ('allocated', 'late', 'receipt-entered');

-- An id is free again only when its allocation was moved to the participant whose it is (docs/spec.md §10.10).
CREATE TRIGGER one_allocation_a_participant BEFORE INSERT ON record
WHEN NEW.kind IN ('allocated', 'late', 'receipt-entered') AND EXISTS (
    SELECT 1 FROM record AS own WHERE own.participant = NEW.participant
    AND own.kind IN ('allocated', 'late', 'receipt-entered', 'reassigned')
    AND NOT EXISTS (
        SELECT 1 FROM record AS moved WHERE moved.participant = NEW.participant
        AND moved.kind = 'reassignment-proposed' AND moved.seq > own.seq))
BEGIN SELECT raise(ABORT, 'one participant, one allocation'); END;

-- INSERT OR REPLACE passes a DELETE trigger while recursive_triggers is off, so the next seq is demanded here.
CREATE TRIGGER record_next BEFORE INSERT ON record
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, 0) FROM record)
BEGIN SELECT raise(ABORT, 'the log is append-only: seq is not the next one'); END;

CREATE TRIGGER record_no_update BEFORE UPDATE ON record
BEGIN SELECT raise(ABORT, 'the log is append-only: no record is edited'); END;

CREATE TRIGGER record_no_delete BEFORE DELETE ON record
BEGIN SELECT raise(ABORT, 'the log is append-only: no record is deleted'); END;

CREATE TRIGGER detail_next BEFORE INSERT ON detail
WHEN NEW.seq IS NOT (SELECT max(seq) FROM record)
    OR EXISTS (SELECT 1 FROM detail WHERE seq = NEW.seq AND field = NEW.field)
BEGIN SELECT raise(ABORT, 'the log is append-only: details are written with their record'); END;

CREATE TRIGGER detail_no_update BEFORE UPDATE ON detail
BEGIN SELECT raise(ABORT, 'the log is append-only: no detail is edited'); END;

CREATE TRIGGER detail_no_delete BEFORE DELETE ON detail
BEGIN SELECT raise(ABORT, 'the log is append-only: no detail is deleted'); END;
