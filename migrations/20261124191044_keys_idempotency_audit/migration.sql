-- AlterEnum
ALTER TYPE "credits"."account_status" ADD VALUE 'paused';

-- AlterTable
ALTER TABLE "credits"."jobs" ADD COLUMN     "parent_job_id" UUID;

-- AlterTable
ALTER TABLE "credits"."teams" ADD COLUMN     "rpm_limit" INTEGER,
ADD COLUMN     "tpm_limit" INTEGER;

-- AlterTable
ALTER TABLE "credits"."virtual_keys" ADD COLUMN     "allowed_aliases" TEXT[] DEFAULT ARRAY[]::TEXT[],
ADD COLUMN     "credit_limit" DECIMAL(24,10),
ADD COLUMN     "credits_held" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "credits_used" DECIMAL(24,10) NOT NULL DEFAULT 0,
ADD COLUMN     "last_used_at" TIMESTAMPTZ(6),
ADD COLUMN     "replaced_by" UUID,
ADD COLUMN     "rpm_limit" INTEGER,
ADD COLUMN     "tpm_limit" INTEGER;

-- CreateTable
CREATE TABLE "credits"."idempotency_keys" (
    "scope" VARCHAR(260) NOT NULL,
    "method" VARCHAR(10) NOT NULL,
    "path" VARCHAR(1000) NOT NULL,
    "idempotency_key" VARCHAR(255) NOT NULL,
    "fingerprint" CHAR(64) NOT NULL,
    "claim_id" UUID NOT NULL,
    "lease_until" TIMESTAMPTZ(6) NOT NULL,
    "done" BOOLEAN NOT NULL DEFAULT false,
    "call_id" UUID,
    "status" INTEGER,
    "answer" BYTEA,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(6) NOT NULL,

    CONSTRAINT "idempotency_keys_pkey" PRIMARY KEY ("scope","method","path","idempotency_key")
);

-- CreateTable
CREATE TABLE "credits"."audit_log" (
    "audit_id" BIGSERIAL NOT NULL,
    "request_id" UUID,
    "actor" VARCHAR(20) NOT NULL,
    "actor_key" VARCHAR(64) NOT NULL,
    "client_address" VARCHAR(64),
    "action" VARCHAR(200) NOT NULL,
    "organization_id" VARCHAR(255),
    "team_id" VARCHAR(255),
    "subject" VARCHAR(63) NOT NULL,
    "subject_id" VARCHAR(600) NOT NULL,
    "change" VARCHAR(10) NOT NULL,
    "before" JSONB,
    "after" JSONB,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_log_pkey" PRIMARY KEY ("audit_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "idempotency_keys_claim_id_key" ON "credits"."idempotency_keys"("claim_id");

-- CreateIndex
CREATE INDEX "idempotency_keys_expires_at_idx" ON "credits"."idempotency_keys"("expires_at");

-- CreateIndex
CREATE INDEX "audit_log_team_id_audit_id_idx" ON "credits"."audit_log"("team_id", "audit_id");

-- CreateIndex
CREATE INDEX "audit_log_subject_subject_id_audit_id_idx" ON "credits"."audit_log"("subject", "subject_id", "audit_id");

-- CreateIndex
CREATE INDEX "jobs_team_id_external_task_id_idx" ON "credits"."jobs"("team_id", "external_task_id");

-- CreateIndex
CREATE INDEX "jobs_parent_job_id_idx" ON "credits"."jobs"("parent_job_id");

-- AddForeignKey
ALTER TABLE "credits"."jobs" ADD CONSTRAINT "jobs_parent_job_id_fkey" FOREIGN KEY ("parent_job_id") REFERENCES "credits"."jobs"("job_id") ON DELETE SET NULL ON UPDATE CASCADE;

-- Beyond Prisma: what schema.prisma cannot express, written by hand.

-- Prisma leaves list columns nullable.
ALTER TABLE "credits"."virtual_keys" ALTER COLUMN "allowed_aliases" SET NOT NULL;

ALTER TABLE "credits"."virtual_keys"
    ADD CONSTRAINT "virtual_keys_credit_limit" CHECK ("credit_limit" >= 0),
    ADD CONSTRAINT "virtual_keys_rpm_limit" CHECK ("rpm_limit" > 0),
    ADD CONSTRAINT "virtual_keys_tpm_limit" CHECK ("tpm_limit" > 0);

ALTER TABLE "credits"."teams"
    ADD CONSTRAINT "teams_rpm_limit" CHECK ("rpm_limit" > 0),
    ADD CONSTRAINT "teams_tpm_limit" CHECK ("tpm_limit" > 0);

ALTER TABLE "credits"."jobs" ADD CONSTRAINT "jobs_parent_job_id" CHECK ("parent_job_id" <> "job_id");

-- What a key used, and when, changes with every call and is nobody's news.
DROP TRIGGER "notify_change" ON "credits"."virtual_keys";
CREATE TRIGGER "notify_change" AFTER INSERT OR DELETE OR UPDATE OF
    "key_id", "key_hash", "team_id", "name", "status", "expires_at", "allowed_aliases", "credit_limit", "rpm_limit", "tpm_limit"
    ON "credits"."virtual_keys" FOR EACH ROW EXECUTE FUNCTION "credits"."notify_change"('team', 'team_id');

-- What a team was answered goes with it: another may be made under its id.
CREATE FUNCTION "credits"."forget_answers"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM credits.idempotency_keys WHERE scope = 'team:' || OLD.team_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER "forget_answers" AFTER DELETE ON "credits"."teams"
    FOR EACH ROW EXECUTE FUNCTION "credits"."forget_answers"();

CREATE FUNCTION "credits"."refuse_audit_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER "append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "credits"."audit_log"
    FOR EACH STATEMENT EXECUTE FUNCTION "credits"."refuse_audit_change"();

-- Writes the audit entry of a row's change, in the transaction that changes it. The transaction's settings credits.* say who acts
-- (the API sets them); without them it is whoever is logged in to the database. The trigger's first argument names the columns of
-- the row's key, the others columns that are not kept. An update that changes no other column has no entry.
CREATE FUNCTION "credits"."audit"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    actor text := nullif(current_setting('credits.actor', true), '');
    hidden text[] := TG_ARGV[1:] || ARRAY['updated_at'];
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - hidden END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - hidden END;
    facts jsonb := coalesce(after, before);
BEGIN
    IF before = after THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(key, o.value), jsonb_object_agg(key, n.value) INTO before, after
          FROM jsonb_each(before) o JOIN jsonb_each(after) n USING (key) WHERE o.value <> n.value;
    END IF;
    INSERT INTO credits.audit_log (
        request_id, actor, actor_key, client_address, action, organization_id, team_id, subject, subject_id, change, before, after)
    VALUES (
        CASE WHEN actor IS NOT NULL THEN nullif(current_setting('credits.request_id', true), '')::uuid END,
        coalesce(actor, 'database'),
        CASE WHEN actor IS NULL THEN session_user ELSE current_setting('credits.actor_key', true) END,
        CASE WHEN actor IS NOT NULL THEN nullif(current_setting('credits.client_address', true), '') END,
        CASE WHEN actor IS NULL THEN 'SQL' ELSE current_setting('credits.action', true) END,
        coalesce(facts ->> 'organization_id',
                 (SELECT t.organization_id FROM credits.teams t WHERE t.team_id = facts ->> 'team_id')),
        facts ->> 'team_id',
        TG_TABLE_NAME,
        (SELECT string_agg(facts ->> name, '/' ORDER BY position)
           FROM unnest(string_to_array(TG_ARGV[0], ',')) WITH ORDINALITY AS key(name, position)),
        lower(TG_OP), before, after);
    RETURN NULL;
END
$$;

CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."organizations"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('organization_id');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."teams"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('team_id');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."team_access_groups"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('team_id,group_name', 'assigned_at');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_aliases"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('model_alias');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_access_groups"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('group_name');
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."model_alias_access_groups"
    FOR EACH ROW EXECUTE FUNCTION "credits"."audit"('group_name,model_alias', 'assigned_at');
CREATE TRIGGER "audit" AFTER INSERT OR DELETE OR UPDATE OF
    "key_id", "key_hash", "team_id", "name", "status", "expires_at", "allowed_aliases", "credit_limit", "rpm_limit", "tpm_limit",
    "replaced_by"
    ON "credits"."virtual_keys" FOR EACH ROW
    EXECUTE FUNCTION "credits"."audit"('key_id', 'key_hash', 'credits_used', 'credits_held', 'last_used_at');
-- The ledger speaks for itself; here stands who moved credits by hand.
CREATE TRIGGER "audit" AFTER INSERT ON "credits"."credit_transactions"
    FOR EACH ROW WHEN (current_setting('credits.actor', true) <> '')
    EXECUTE FUNCTION "credits"."audit"('transaction_id');
-- Jobs are their teams' own work: only the admin's hand in them is kept, and not what goes with a deleted team.
CREATE TRIGGER "audit" AFTER INSERT OR UPDATE OR DELETE ON "credits"."jobs"
    FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND current_setting('credits.actor', true) = 'admin')
    EXECUTE FUNCTION "credits"."audit"('job_id');
