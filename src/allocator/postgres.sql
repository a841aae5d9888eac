-- The logs of many studies in one PostgreSQL database (docs/postgres.md): run once, by its administrator, in psql.
-- Columns and rules are those of schema.sql; `study` stands first in every key. `verify` holds the database to this.
-- Triggers and rights are guard rails: whoever owns the tables can drop them. The hash chain is the security.

BEGIN;

-- The owner logs in nowhere. Who works for a study is in `allocator_writer`, who only reads in `allocator_auditor`.
-- Roles belong to the whole cluster: those of another database with this schema serve, any other ones are refused.
-- Where the administrator is no superuser, as on a managed server, the owner's rights are lent until the end.
DO $$
DECLARE
    wanted TEXT;
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE 'the database has the encoding %: make one with UTF8', current_setting('server_encoding');
    END IF;
    FOREACH wanted IN ARRAY ARRAY['allocator_owner', 'allocator_writer', 'allocator_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        ELSIF EXISTS (
            SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = wanted AND (rolcanlogin OR rolsuper OR rolcreaterole
                OR rolcreatedb OR rolbypassrls OR rolreplication
                OR EXISTS (SELECT FROM pg_catalog.pg_auth_members WHERE member = r.oid))
        ) THEN
            RAISE 'there is a role % that may more than it should', wanted;
        END IF;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        GRANT allocator_owner TO CURRENT_USER;
    END IF;
END $$;

CREATE SCHEMA allocator AUTHORIZATION allocator_owner;
SET LOCAL ROLE allocator_owner;

CREATE TABLE allocator.version (version INTEGER PRIMARY KEY);
INSERT INTO allocator.version VALUES (1);

-- One row a study. Who writes holds its row: that is the line in which writers wait. Nothing in it ever changes;
-- `turn` is there because the right to lock a row is the right to update a column of it.
CREATE TABLE allocator.study (
    study TEXT COLLATE "C" PRIMARY KEY,
    turn INTEGER NOT NULL DEFAULT 0
);

-- One row a record. `prev` and `body` are the record; the other columns are a guard written by the same INSERT,
-- compared by `verify`, and never a source.
CREATE TABLE allocator.record (
    study TEXT COLLATE "C" NOT NULL REFERENCES allocator.study (study),
    seq BIGINT NOT NULL,
    prev BYTEA NOT NULL CHECK (length(prev) = 32),
    body TEXT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    participant TEXT COLLATE "C",
    stratum TEXT COLLATE "C",
    position BIGINT,
    PRIMARY KEY (study, seq)
);

-- Private details stand beside the body, which commits to each.
CREATE TABLE allocator.detail (
    study TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    field TEXT COLLATE "C" NOT NULL,
    salt BYTEA NOT NULL CHECK (length(salt) = 32),
    value TEXT NOT NULL,
    PRIMARY KEY (study, seq, field),
    FOREIGN KEY (study, seq) REFERENCES allocator.record (study, seq)
);

CREATE INDEX record_of_kind ON allocator.record (study, kind, seq);
CREATE INDEX record_of_participant ON allocator.record (study, participant, kind, seq) WHERE participant IS NOT NULL;
CREATE INDEX record_of_position ON allocator.record (study, stratum, position, kind, seq) WHERE position IS NOT NULL;

-- The second guard of "one allocation a position, one a participant": the first is the rules, under the lock.
CREATE UNIQUE INDEX one_allocation_a_position ON allocator.record (study, stratum, position)
WHERE kind IN ('allocated', 'late', 'receipt-entered');

-- The next seq is demanded, and the hash of the record before it (docs/spec.md §9): SHA-256(0x00 || prev || body).
CREATE FUNCTION allocator.record_next() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last RECORD;
BEGIN
    SELECT seq, prev, body INTO last FROM allocator.record WHERE study = NEW.study ORDER BY seq DESC LIMIT 1;
    IF NEW.seq IS DISTINCT FROM coalesce(last.seq + 1, 0) THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'the log is append-only: seq is not the next one';
    END IF;
    IF NEW.prev IS DISTINCT FROM coalesce(
        sha256('\x00'::BYTEA || last.prev || convert_to(last.body, 'UTF8')), decode(repeat('00', 32), 'hex')
    ) THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'the log is one chain: prev is not the last one''s hash';
    END IF;
    RETURN NEW;
END $$;

-- An id is free again only when its allocation was moved to the participant whose it is (docs/spec.md §10.10).
CREATE FUNCTION allocator.one_allocation_a_participant() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM allocator.record AS own WHERE own.study = NEW.study AND own.participant = NEW.participant
        AND own.kind IN ('allocated', 'late', 'receipt-entered', 'reassigned')
        AND NOT EXISTS (
            SELECT FROM allocator.record AS moved WHERE moved.study = NEW.study
            AND moved.participant = NEW.participant
            AND moved.kind = 'reassignment-proposed' AND moved.seq > own.seq)
    ) THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'one participant, one allocation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION allocator.detail_next() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.seq IS DISTINCT FROM (SELECT max(seq) FROM allocator.record WHERE study = NEW.study) THEN
        RAISE integrity_constraint_violation
        USING MESSAGE = 'the log is append-only: details are written with their record';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION allocator.append_only() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE integrity_constraint_violation USING MESSAGE = 'the log is append-only: nothing is edited or deleted';
END $$;

CREATE TRIGGER one_allocation_a_participant BEFORE INSERT ON allocator.record FOR EACH ROW
WHEN (NEW.kind IN ('allocated', 'late', 'receipt-entered'))
EXECUTE FUNCTION allocator.one_allocation_a_participant();
CREATE TRIGGER record_next BEFORE INSERT ON allocator.record FOR EACH ROW EXECUTE FUNCTION allocator.record_next();
CREATE TRIGGER detail_next BEFORE INSERT ON allocator.detail FOR EACH ROW EXECUTE FUNCTION allocator.detail_next();
CREATE TRIGGER record_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON allocator.record
FOR EACH STATEMENT EXECUTE FUNCTION allocator.append_only();
CREATE TRIGGER detail_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON allocator.detail
FOR EACH STATEMENT EXECUTE FUNCTION allocator.append_only();
CREATE TRIGGER study_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON allocator.study
FOR EACH STATEMENT EXECUTE FUNCTION allocator.append_only();
CREATE TRIGGER version_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON allocator.version
FOR EACH STATEMENT EXECUTE FUNCTION allocator.append_only();

GRANT USAGE ON SCHEMA allocator TO allocator_writer, allocator_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA allocator TO allocator_writer, allocator_auditor;
GRANT INSERT ON allocator.record, allocator.detail TO allocator_writer;
GRANT INSERT (study), UPDATE (turn) ON allocator.study TO allocator_writer;

RESET ROLE;
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        REVOKE allocator_owner FROM CURRENT_USER;
    END IF;
END $$;

COMMIT;
