-- CreateEnum
CREATE TYPE "credits"."grant_kind" AS ENUM ('paid', 'promotional', 'compensation');

-- CreateEnum
CREATE TYPE "credits"."job_expiry" AS ENUM ('complete', 'cancel');

-- CreateEnum
CREATE TYPE "credits"."refill_period" AS ENUM ('daily', 'weekly', 'monthly');

-- CreateEnum
CREATE TYPE "credits"."refill_request_status" AS ENUM ('open', 'fulfilled', 'withdrawn');

-- AlterEnum
-- This migration adds more than one value to an enum.
-- With PostgreSQL versions 11 and earlier, this is not possible
-- in a single migration. This can be worked around by creating
-- multiple migrations, each migration adding only one value to
-- the enum.


ALTER TYPE "credits"."transaction_type" ADD VALUE 'expiry';
ALTER TYPE "credits"."transaction_type" ADD VALUE 'void';

-- AlterTable
ALTER TABLE "credits"."credit_transactions" ADD COLUMN     "grant_id" UUID;

-- AlterTable
ALTER TABLE "credits"."jobs" ADD COLUMN     "calls_included" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "credit_cap" DECIMAL(24,10),
ADD COLUMN     "credits_charged" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "credits_held" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "credits_price" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "credits_refunded" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "expires_at" TIMESTAMPTZ(6),
ADD COLUMN     "on_expiry" "credits"."job_expiry" NOT NULL DEFAULT 'cancel';

-- AlterTable
ALTER TABLE "credits"."llm_calls" ADD COLUMN     "counted_on_key" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "credits_refunded" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "drawn_on_job" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "earmarked" BOOLEAN NOT NULL DEFAULT false;

-- AlterTable
ALTER TABLE "credits"."team_credits" ADD COLUMN     "calls_held" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "credits_earmarked" DECIMAL(24,10) NOT NULL DEFAULT 0;

-- CreateTable
CREATE TABLE "credits"."credit_grants" (
    "grant_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "team_id" VARCHAR(255) NOT NULL,
    "kind" "credits"."grant_kind" NOT NULL,
    "priority" INTEGER NOT NULL DEFAULT 100,
    "credits_granted" DECIMAL(24,10) NOT NULL,
    "credits_taken" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_used" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_held" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "earmarked" BOOLEAN NOT NULL,
    "effective_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(6),
    "model_aliases" VARCHAR(255)[] DEFAULT ARRAY[]::VARCHAR(255)[],
    "job_types" VARCHAR(100)[] DEFAULT ARRAY[]::VARCHAR(100)[],
    "rollover_credits" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "rollover_days" INTEGER,
    "reason" VARCHAR(500) NOT NULL,
    "voided_at" TIMESTAMPTZ(6),
    "ended_at" TIMESTAMPTZ(6),
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "credit_grants_pkey" PRIMARY KEY ("grant_id")
);

-- CreateTable
CREATE TABLE "credits"."grant_draws" (
    "holder_id" UUID NOT NULL,
    "grant_id" UUID NOT NULL,
    "credits_held" DECIMAL(24,10) NOT NULL,
    "credits_charged" DECIMAL(24,10) NOT NULL DEFAULT 0,

    CONSTRAINT "grant_draws_pkey" PRIMARY KEY ("holder_id","grant_id")
);

-- CreateTable
CREATE TABLE "credits"."refills" (
    "team_id" VARCHAR(255) NOT NULL,
    "period" "credits"."refill_period",
    "credits" DECIMAL(24,10),
    "starts_at" TIMESTAMPTZ(6),
    "periods" INTEGER NOT NULL DEFAULT 0,
    "next_at" TIMESTAMPTZ(6),
    "kind" "credits"."grant_kind" NOT NULL DEFAULT 'paid',
    "lapses" BOOLEAN NOT NULL DEFAULT false,
    "rollover_credits" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "threshold" DECIMAL(24,10),
    "target" DECIMAL(24,10),
    "monthly_cap" DECIMAL(24,10),
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "refills_pkey" PRIMARY KEY ("team_id")
);

-- CreateTable
CREATE TABLE "credits"."refill_requests" (
    "request_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "team_id" VARCHAR(255) NOT NULL,
    "credits" DECIMAL(24,10) NOT NULL,
    "balance" DECIMAL(24,10) NOT NULL,
    "status" "credits"."refill_request_status" NOT NULL DEFAULT 'open',
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "closed_at" TIMESTAMPTZ(6),

    CONSTRAINT "refill_requests_pkey" PRIMARY KEY ("request_id")
);

-- CreateIndex
CREATE INDEX "credit_grants_team_id_created_at_grant_id_idx" ON "credits"."credit_grants"("team_id", "created_at", "grant_id");

-- CreateIndex
CREATE INDEX "grant_draws_grant_id_idx" ON "credits"."grant_draws"("grant_id");

-- CreateIndex
CREATE INDEX "refills_next_at_idx" ON "credits"."refills"("next_at");

-- CreateIndex
CREATE INDEX "refill_requests_team_id_created_at_request_id_idx" ON "credits"."refill_requests"("team_id", "created_at", "request_id");

-- AddForeignKey
ALTER TABLE "credits"."credit_grants" ADD CONSTRAINT "credit_grants_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."grant_draws" ADD CONSTRAINT "grant_draws_grant_id_fkey" FOREIGN KEY ("grant_id") REFERENCES "credits"."credit_grants"("grant_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."refills" ADD CONSTRAINT "refills_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."refill_requests" ADD CONSTRAINT "refill_requests_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Beyond Prisma: what schema.prisma cannot express, written by hand.

-- Prisma leaves list columns nullable.
ALTER TABLE "credits"."credit_grants"
    ALTER COLUMN "model_aliases" SET NOT NULL,
    ALTER COLUMN "job_types" SET NOT NULL;

-- What was allocated before there were grants is one plain grant.
INSERT INTO "credits"."credit_grants" ("team_id", "kind", "credits_granted", "earmarked", "effective_at", "created_at", "reason")
SELECT "team_id", 'paid', "credits_allocated", false, "created_at", "created_at", 'Allocated before there were grants'
  FROM "credits"."team_credits" WHERE "credits_allocated" > 0;

UPDATE "credits"."team_credits" a SET "calls_held" = c."calls"
  FROM (SELECT "team_id", count(*) AS "calls" FROM "credits"."llm_calls" WHERE "status" = 'held' GROUP BY "team_id") c
 WHERE c."team_id" = a."team_id";

-- No overdraft of the plain balance either: what is earmarked pays only for what its grants allow.
ALTER TABLE "credits"."team_credits"
    DROP CONSTRAINT "team_credits_no_overdraft",
    ADD CONSTRAINT "team_credits_no_overdraft"
        CHECK ("credits_allocated" - "credits_used" - "credits_held" + "overdraft_limit" - "credits_earmarked" >= 0),
    ADD CONSTRAINT "team_credits_earmarked" CHECK ("credits_earmarked" >= 0),
    ADD CONSTRAINT "team_credits_calls_held" CHECK ("calls_held" >= 0);

ALTER TABLE "credits"."credit_grants"
    ADD CONSTRAINT "credit_grants_credits" CHECK ("credits_granted" > 0 AND "credits_taken" >= 0 AND "credits_used" >= 0
        AND "credits_held" >= 0 AND "credits_granted" - "credits_taken" - "credits_used" - "credits_held" >= 0),
    ADD CONSTRAINT "credit_grants_plain" CHECK ("earmarked" OR ("credits_used" = 0 AND "credits_held" = 0 AND "priority" = 100
        AND "model_aliases" = '{}' AND "job_types" = '{}'));

ALTER TABLE "credits"."grant_draws"
    ADD CONSTRAINT "grant_draws_credits" CHECK ("credits_held" >= 0 AND "credits_charged" >= 0);

ALTER TABLE "credits"."jobs"
    ADD CONSTRAINT "jobs_credits" CHECK ("credit_cap" >= 0 AND "credits_price" >= 0 AND "credits_held" >= 0
        AND "credits_refunded" >= 0 AND "credits_charged" - "credits_refunded" >= 0),
    ADD CONSTRAINT "jobs_price_held" CHECK ("status" NOT IN ('pending', 'in_progress') OR "credits_held" >= "credits_price"),
    ADD CONSTRAINT "jobs_closed" CHECK ("status" IN ('pending', 'in_progress') OR "credits_held" = 0);

ALTER TABLE "credits"."llm_calls"
    ADD CONSTRAINT "llm_calls_credits_refunded" CHECK ("credits_refunded" >= 0 AND "credits_refunded" <= "credits_charged");

ALTER TABLE "credits"."refills"
    ADD CONSTRAINT "refills_period" CHECK (("period" IS NULL AND "next_at" IS NULL)
        OR ("credits" > 0 AND "starts_at" IS NOT NULL AND "next_at" IS NOT NULL)),
    ADD CONSTRAINT "refills_threshold" CHECK ("threshold" IS NULL OR "target" > "threshold");

-- Few grants are earmarked, few of these have not ended, few jobs have a time to end at.
CREATE INDEX "credit_grants_earmarked_team_id_idx" ON "credits"."credit_grants" ("team_id") WHERE "earmarked" AND "ended_at" IS NULL;
CREATE INDEX "credit_grants_expires_at_idx" ON "credits"."credit_grants" ("expires_at") WHERE "earmarked" AND "ended_at" IS NULL;
CREATE INDEX "jobs_expires_at_idx" ON "credits"."jobs" ("expires_at") WHERE "status" IN ('pending', 'in_progress');

-- One request at a time.
CREATE UNIQUE INDEX "refill_requests_open_team_id_key" ON "credits"."refill_requests" ("team_id") WHERE "status" = 'open';


-- The admin's hand in grants and refills. What calls take of a grant, and what the sweeper does, is the ledger's to tell.
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."credit_grants"
    FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND current_setting('credits.actor', true) = 'admin')
    EXECUTE FUNCTION "credits"."audit"('grant_id', 'credits_used', 'credits_held');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."refills"
    FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND current_setting('credits.actor', true) = 'admin')
    EXECUTE FUNCTION "credits"."audit"('team_id', 'periods', 'next_at');
