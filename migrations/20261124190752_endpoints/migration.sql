-- AlterEnum
ALTER TYPE "credits"."call_basis" ADD VALUE 'request_units';

-- AlterTable
ALTER TABLE "credits"."llm_calls" ADD COLUMN     "audio_input_tokens" INTEGER,
ADD COLUMN     "audio_output_tokens" INTEGER,
ADD COLUMN     "cache_write_tokens" INTEGER,
ADD COLUMN     "pricing_rates" JSONB,
ADD COLUMN     "units" JSONB;

-- AlterTable
ALTER TABLE "credits"."model_aliases" ADD COLUMN     "pricing_rates" JSONB NOT NULL DEFAULT '{}';
