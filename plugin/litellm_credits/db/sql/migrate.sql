-- The record of applied migrations: Prisma Migrate's own table, as its URL parameter ?schema=credits puts it.

-- name: lock
-- Prisma Migrate's own lock id: while one of us migrates, the others wait. Released with the transaction.
SELECT pg_advisory_xact_lock(72707369);

-- name: has_records
SELECT to_regclass('credits._prisma_migrations') IS NOT NULL;

-- name: records
-- What the database says was applied to it. A migration marked as rolled back counts as never applied.
SELECT migration_name AS name, checksum, finished_at IS NOT NULL AS finished
  FROM credits._prisma_migrations
 WHERE rolled_back_at IS NULL
 ORDER BY started_at;

-- name: create_records
CREATE SCHEMA IF NOT EXISTS credits;
CREATE TABLE IF NOT EXISTS credits._prisma_migrations (
    id                  varchar(36)  PRIMARY KEY NOT NULL,
    checksum            varchar(64)  NOT NULL,
    finished_at         timestamptz,
    migration_name      varchar(255) NOT NULL,
    logs                text,
    rolled_back_at      timestamptz,
    started_at          timestamptz  NOT NULL DEFAULT now(),
    applied_steps_count integer      NOT NULL DEFAULT 0
);

-- name: begin_record
-- clock_timestamp(), since now() is when the transaction began to wait for the lock, and Prisma orders by started_at.
INSERT INTO credits._prisma_migrations (id, checksum, migration_name, started_at)
VALUES (%(id)s, %(checksum)s, %(name)s, clock_timestamp());

-- name: finish_record
UPDATE credits._prisma_migrations SET finished_at = clock_timestamp(), applied_steps_count = 1 WHERE id = %(id)s;
