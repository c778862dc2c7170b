-- CreateSchema
CREATE SCHEMA IF NOT EXISTS "credits";

-- CreateEnum
CREATE TYPE "credits"."account_status" AS ENUM ('active', 'suspended');

-- CreateEnum
CREATE TYPE "credits"."catalog_status" AS ENUM ('active', 'inactive');

-- CreateEnum
CREATE TYPE "credits"."key_status" AS ENUM ('active', 'revoked');

-- CreateEnum
CREATE TYPE "credits"."job_status" AS ENUM ('pending', 'in_progress', 'completed', 'failed', 'cancelled');

-- CreateEnum
CREATE TYPE "credits"."call_status" AS ENUM ('held', 'settled', 'voided', 'expired');

-- CreateEnum
CREATE TYPE "credits"."call_basis" AS ENUM ('provider_usage', 'counted_output', 'held_estimate', 'zero_output', 'cache_hit');

-- CreateEnum
CREATE TYPE "credits"."transaction_type" AS ENUM ('allocation', 'charge', 'refund', 'adjustment', 'closure');

-- CreateTable
CREATE TABLE "credits"."organizations" (
    "organization_id" VARCHAR(255) NOT NULL,
    "name" VARCHAR(500) NOT NULL,
    "status" "credits"."account_status" NOT NULL DEFAULT 'active',
    "metadata" JSONB NOT NULL DEFAULT '{}',
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "organizations_pkey" PRIMARY KEY ("organization_id")
);

-- CreateTable
CREATE TABLE "credits"."teams" (
    "team_id" VARCHAR(255) NOT NULL,
    "organization_id" VARCHAR(255) NOT NULL,
    "team_alias" VARCHAR(500),
    "status" "credits"."account_status" NOT NULL DEFAULT 'active',
    "metadata" JSONB NOT NULL DEFAULT '{}',
    "plan" JSONB NOT NULL DEFAULT '{}',
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "teams_pkey" PRIMARY KEY ("team_id")
);

-- CreateTable
CREATE TABLE "credits"."virtual_keys" (
    "key_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "key_hash" CHAR(64) NOT NULL,
    "key_prefix" VARCHAR(16) NOT NULL,
    "team_id" VARCHAR(255) NOT NULL,
    "name" VARCHAR(255),
    "status" "credits"."key_status" NOT NULL DEFAULT 'active',
    "expires_at" TIMESTAMPTZ(6),
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "revoked_at" TIMESTAMPTZ(6),

    CONSTRAINT "virtual_keys_pkey" PRIMARY KEY ("key_id")
);

-- CreateTable
CREATE TABLE "credits"."model_aliases" (
    "model_alias" VARCHAR(255) NOT NULL,
    "display_name" VARCHAR(255),
    "provider" VARCHAR(100) NOT NULL,
    "actual_model" VARCHAR(255) NOT NULL,
    "description" TEXT,
    "pricing_input" DECIMAL(20,10),
    "pricing_output" DECIMAL(20,10),
    "max_output_tokens" INTEGER,
    "status" "credits"."catalog_status" NOT NULL DEFAULT 'active',
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "model_aliases_pkey" PRIMARY KEY ("model_alias")
);

-- CreateTable
CREATE TABLE "credits"."model_access_groups" (
    "group_name" VARCHAR(255) NOT NULL,
    "display_name" VARCHAR(255),
    "description" TEXT,
    "status" "credits"."catalog_status" NOT NULL DEFAULT 'active',
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "model_access_groups_pkey" PRIMARY KEY ("group_name")
);

-- CreateTable
CREATE TABLE "credits"."model_alias_access_groups" (
    "group_name" VARCHAR(255) NOT NULL,
    "model_alias" VARCHAR(255) NOT NULL,
    "position" INTEGER NOT NULL,
    "assigned_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "model_alias_access_groups_pkey" PRIMARY KEY ("group_name","model_alias")
);

-- CreateTable
CREATE TABLE "credits"."team_access_groups" (
    "team_id" VARCHAR(255) NOT NULL,
    "group_name" VARCHAR(255) NOT NULL,
    "position" INTEGER NOT NULL,
    "assigned_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "team_access_groups_pkey" PRIMARY KEY ("team_id","group_name")
);

-- CreateTable
CREATE TABLE "credits"."team_credits" (
    "team_id" VARCHAR(255) NOT NULL,
    "account_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "organization_id" VARCHAR(255) NOT NULL,
    "credits_allocated" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_used" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_held" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_remaining" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "overdraft_limit" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "team_credits_pkey" PRIMARY KEY ("team_id")
);

-- CreateTable
CREATE TABLE "credits"."credit_transactions" (
    "transaction_id" BIGSERIAL NOT NULL,
    "account_id" UUID NOT NULL,
    "team_id" VARCHAR(255) NOT NULL,
    "organization_id" VARCHAR(255) NOT NULL,
    "job_id" UUID,
    "call_id" UUID,
    "transaction_type" "credits"."transaction_type" NOT NULL,
    "credits_amount" DECIMAL(24,10) NOT NULL,
    "credits_before" DECIMAL(24,10) NOT NULL,
    "credits_after" DECIMAL(24,10) NOT NULL,
    "reason" VARCHAR(500) NOT NULL,
    "idempotency_key" VARCHAR(255),
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "credit_transactions_pkey" PRIMARY KEY ("transaction_id")
);

-- CreateTable
CREATE TABLE "credits"."jobs" (
    "job_id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "team_id" VARCHAR(255) NOT NULL,
    "organization_id" VARCHAR(255) NOT NULL,
    "user_id" VARCHAR(255),
    "external_task_id" VARCHAR(255),
    "job_type" VARCHAR(100) NOT NULL,
    "status" "credits"."job_status" NOT NULL DEFAULT 'pending',
    "metadata" JSONB NOT NULL DEFAULT '{}',
    "error_message" VARCHAR(1000),
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(6),
    "completed_at" TIMESTAMPTZ(6),

    CONSTRAINT "jobs_pkey" PRIMARY KEY ("job_id")
);

-- CreateTable
CREATE TABLE "credits"."llm_calls" (
    "call_id" UUID NOT NULL,
    "job_id" UUID,
    "team_id" VARCHAR(255) NOT NULL,
    "key_id" UUID,
    "litellm_call_id" VARCHAR(255),
    "endpoint" VARCHAR(100) NOT NULL,
    "purpose" VARCHAR(200),
    "status" "credits"."call_status" NOT NULL,
    "basis" "credits"."call_basis",
    "policy" VARCHAR(100),
    "flags" TEXT[] DEFAULT ARRAY[]::TEXT[],
    "requested_model" VARCHAR(255) NOT NULL,
    "model_group_used" VARCHAR(255) NOT NULL,
    "model_alias" VARCHAR(255) NOT NULL,
    "resolved_model" VARCHAR(255),
    "prompt_tokens" INTEGER,
    "completion_tokens" INTEGER,
    "total_tokens" INTEGER,
    "cached_tokens" INTEGER,
    "reasoning_tokens" INTEGER,
    "pricing_input" DECIMAL(20,10) NOT NULL,
    "pricing_output" DECIMAL(20,10) NOT NULL,
    "cost_usd" DECIMAL(24,14),
    "provider_cost_usd" DECIMAL(24,14),
    "credits_held" DECIMAL(24,10) NOT NULL,
    "credits_charged" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "credits_uncollected" DECIMAL(24,10) NOT NULL DEFAULT 0,
    "stream" BOOLEAN NOT NULL,
    "latency_ms" INTEGER,
    "time_to_first_token_ms" INTEGER,
    "request_data" JSONB,
    "response_data" JSONB,
    "error" JSONB,
    "worker_id" UUID NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(6),
    "lease_until" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "llm_calls_pkey" PRIMARY KEY ("call_id")
);

-- CreateIndex
CREATE INDEX "teams_organization_id_idx" ON "credits"."teams"("organization_id");

-- CreateIndex
CREATE UNIQUE INDEX "virtual_keys_key_hash_key" ON "credits"."virtual_keys"("key_hash");

-- CreateIndex
CREATE INDEX "virtual_keys_team_id_idx" ON "credits"."virtual_keys"("team_id");

-- CreateIndex
CREATE INDEX "model_alias_access_groups_model_alias_idx" ON "credits"."model_alias_access_groups"("model_alias");

-- CreateIndex
CREATE INDEX "team_access_groups_group_name_idx" ON "credits"."team_access_groups"("group_name");

-- CreateIndex
CREATE UNIQUE INDEX "team_credits_account_id_key" ON "credits"."team_credits"("account_id");

-- CreateIndex
CREATE INDEX "credit_transactions_account_id_transaction_id_idx" ON "credits"."credit_transactions"("account_id", "transaction_id");

-- CreateIndex
CREATE INDEX "jobs_team_id_created_at_job_id_idx" ON "credits"."jobs"("team_id", "created_at", "job_id");

-- CreateIndex
CREATE INDEX "llm_calls_team_id_created_at_call_id_idx" ON "credits"."llm_calls"("team_id", "created_at", "call_id");

-- CreateIndex
CREATE INDEX "llm_calls_job_id_idx" ON "credits"."llm_calls"("job_id");

-- AddForeignKey
ALTER TABLE "credits"."teams" ADD CONSTRAINT "teams_organization_id_fkey" FOREIGN KEY ("organization_id") REFERENCES "credits"."organizations"("organization_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."virtual_keys" ADD CONSTRAINT "virtual_keys_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."model_alias_access_groups" ADD CONSTRAINT "model_alias_access_groups_group_name_fkey" FOREIGN KEY ("group_name") REFERENCES "credits"."model_access_groups"("group_name") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."model_alias_access_groups" ADD CONSTRAINT "model_alias_access_groups_model_alias_fkey" FOREIGN KEY ("model_alias") REFERENCES "credits"."model_aliases"("model_alias") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."team_access_groups" ADD CONSTRAINT "team_access_groups_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."team_access_groups" ADD CONSTRAINT "team_access_groups_group_name_fkey" FOREIGN KEY ("group_name") REFERENCES "credits"."model_access_groups"("group_name") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."team_credits" ADD CONSTRAINT "team_credits_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."jobs" ADD CONSTRAINT "jobs_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."llm_calls" ADD CONSTRAINT "llm_calls_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "credits"."jobs"("job_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "credits"."llm_calls" ADD CONSTRAINT "llm_calls_team_id_fkey" FOREIGN KEY ("team_id") REFERENCES "credits"."teams"("team_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Beyond Prisma: what schema.prisma cannot express, written by hand.

-- Prisma leaves list columns nullable.
ALTER TABLE "credits"."llm_calls" ALTER COLUMN "flags" SET NOT NULL;

-- No overdraft, whatever the code above does: a balance that breaks these is refused.
ALTER TABLE "credits"."team_credits"
    ADD CONSTRAINT "team_credits_held" CHECK ("credits_held" >= 0),
    ADD CONSTRAINT "team_credits_remaining" CHECK ("credits_remaining" = "credits_allocated" - "credits_used"),
    ADD CONSTRAINT "team_credits_overdraft_limit" CHECK ("overdraft_limit" >= 0),
    ADD CONSTRAINT "team_credits_no_overdraft"
        CHECK ("credits_allocated" - "credits_used" - "credits_held" + "overdraft_limit" >= 0);

ALTER TABLE "credits"."llm_calls"
    ADD CONSTRAINT "llm_calls_credits_held" CHECK ("credits_held" >= 0),
    ADD CONSTRAINT "llm_calls_credits_charged" CHECK ("credits_charged" >= 0),
    ADD CONSTRAINT "llm_calls_credits_uncollected" CHECK ("credits_uncollected" >= 0),
    ADD CONSTRAINT "llm_calls_settled_at" CHECK (("status" = 'held') = ("settled_at" IS NULL)),
    ADD CONSTRAINT "llm_calls_basis" CHECK (("status" = 'settled') = ("basis" IS NOT NULL));

ALTER TABLE "credits"."model_aliases"
    ADD CONSTRAINT "model_aliases_pricing_input" CHECK ("pricing_input" >= 0),
    ADD CONSTRAINT "model_aliases_pricing_output" CHECK ("pricing_output" >= 0),
    ADD CONSTRAINT "model_aliases_max_output_tokens" CHECK ("max_output_tokens" > 0);

ALTER TABLE "credits"."credit_transactions"
    ADD CONSTRAINT "credit_transactions_sum" CHECK ("credits_after" = "credits_before" + "credits_amount");

-- The sweep looks for held calls only, and few calls are held at any moment.
CREATE INDEX "llm_calls_held_lease_until_idx" ON "credits"."llm_calls" ("lease_until") WHERE "status" = 'held';

-- A call is charged once; a retried operation is done once.
CREATE UNIQUE INDEX "credit_transactions_charge_call_id_key" ON "credits"."credit_transactions" ("call_id")
    WHERE "transaction_type" = 'charge' AND "call_id" IS NOT NULL;
CREATE UNIQUE INDEX "credit_transactions_idempotency_key" ON "credits"."credit_transactions" ("account_id", "idempotency_key")
    WHERE "idempotency_key" IS NOT NULL;

CREATE FUNCTION "credits"."refuse_ledger_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER "append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "credits"."credit_transactions"
    FOR EACH STATEMENT EXECUTE FUNCTION "credits"."refuse_ledger_change"();

-- Tells listeners on "credits_changed" what they must no longer cache: the trigger's first argument, and where it names
-- a column as its second, ":" and the value of that column, before and after. PostgreSQL sends the same text once per transaction.
CREATE FUNCTION "credits"."notify_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        PERFORM pg_notify('credits_changed', TG_ARGV[0]);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('credits_changed', TG_ARGV[0] || ':' || (to_jsonb(OLD) ->> TG_ARGV[1]));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('credits_changed', TG_ARGV[0] || ':' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."teams"
    FOR EACH ROW EXECUTE FUNCTION "credits"."notify_change"('team', 'team_id');
CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."virtual_keys"
    FOR EACH ROW EXECUTE FUNCTION "credits"."notify_change"('team', 'team_id');
CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."team_access_groups"
    FOR EACH ROW EXECUTE FUNCTION "credits"."notify_change"('team', 'team_id');
CREATE TRIGGER "notify_change" AFTER UPDATE OR DELETE ON "credits"."organizations"
    FOR EACH ROW EXECUTE FUNCTION "credits"."notify_change"('organization', 'organization_id');
CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_aliases"
    FOR EACH STATEMENT EXECUTE FUNCTION "credits"."notify_change"('catalog');
CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_access_groups"
    FOR EACH STATEMENT EXECUTE FUNCTION "credits"."notify_change"('catalog');
CREATE TRIGGER "notify_change" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_alias_access_groups"
    FOR EACH STATEMENT EXECUTE FUNCTION "credits"."notify_change"('catalog');
