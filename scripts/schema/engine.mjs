// Prisma's schema engine on one database, without Prisma's CLI: `node engine.mjs COMMAND [NAME]`.
//
//   diff         print the SQL that leads from the database to schema.prisma; exit with 2 if there is any
//   create NAME  write that SQL as the next of migrations/, if there is any
//   deploy       apply migrations/ to the database, as `prisma migrate deploy` does
//   status       print as JSON what Prisma thinks of the database's migration history
//
// CREDITS_DATABASE_URL names the database.

import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { PrismaPg } from "@prisma/adapter-pg";
import { ColumnTypeEnum, bindMigrationAwareSqlAdapterFactory } from "@prisma/driver-adapter-utils";
import * as bindings from "@prisma/schema-engine-wasm/schema_engine_bg";
import pg from "pg";

const { types } = pg;

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const MIGRATIONS = join(PROJECT, "migrations");
const NO_FILTERS = { externalTables: [], externalEnums: [] };
/** What `?schema=credits` in a URL means to Prisma's own drivers: where it looks for, and makes, its record of migrations. */
const IN_CREDITS = { options: "-c search_path=credits" };

/** adapter-pg, with what the schema engine needs and it lacks. */
class EngineAdapter extends PrismaPg {
  async connect() {
    const connection = await super.connect();
    // adapter-pg cuts scripts at every ";", also inside function bodies. PostgreSQL takes a whole script as it is.
    connection.executeScript = async (script) => {
      await connection.underlyingDriver().query(script);
    };
    // adapter-pg refuses columns of type "char"; the engine reads the kind of a CHECK constraint from one.
    const { performIO, queryRaw } = connection;
    connection.queryRaw = async (query) => {
      const chars = new Set();
      const readable = async (query) => {
        const result = await performIO.call(connection, query);
        for (const field of result.fields.filter(({ dataTypeID }) => dataTypeID === types.builtins.CHAR)) {
          field.dataTypeID = types.builtins.TEXT;
          chars.add(field.name);
        }
        return result;
      };
      const result = await queryRaw.call(Object.create(connection, { performIO: { value: readable } }), query);
      const columnTypes = result.columnNames.map((name, at) =>
        chars.has(name) ? ColumnTypeEnum.Character : result.columnTypes[at],
      );
      return { ...result, columnTypes };
    };
    return connection;
  }
}

/** The package's own entry imports .wasm as a module, which Node 20 cannot. */
async function startEngine(schema, settings) {
  const module = import.meta.resolve("@prisma/schema-engine-wasm/schema_engine_bg").replace(/\.js$/, ".wasm");
  const wasm = await WebAssembly.instantiate(await readFile(new URL(module)), { "./schema_engine_bg.js": bindings });
  bindings.__wbg_set_wasm(wasm.instance.exports);
  wasm.instance.exports.__wbindgen_start();
  globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: console.error };
  const adapter = new EngineAdapter({ connectionString: process.env.CREDITS_DATABASE_URL, ...settings });
  const datamodels = schema.files.map(({ path, content }) => [path, content]);
  return bindings.SchemaEngine.new({ datamodels }, () => {}, bindMigrationAwareSqlAdapterFactory(adapter));
}

/** schema.prisma without the datasource's url: Prisma 5 (the model generator's) insists on it, Prisma 8 refuses it. */
async function readSchema() {
  const content = await readFile(join(PROJECT, "schema.prisma"), "utf8");
  return { files: [{ path: "schema.prisma", content: content.replace(/^ *url +=.*$/m, "") }] };
}

async function readMigrations() {
  const entries = await readdir(MIGRATIONS, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return {
    baseDir: MIGRATIONS,
    lockfile: { path: "migration_lock.toml", content: await readFile(join(MIGRATIONS, "migration_lock.toml"), "utf8") },
    shadowDbInitScript: "",
    migrationDirectories: await Promise.all(
      names.sort().map(async (name) => {
        const value = await readFile(join(MIGRATIONS, name, "migration.sql"), "utf8");
        return { path: name, migrationFile: { path: "migration.sql", content: { tag: "ok", value } } };
      }),
    ),
  };
}

/** The SQL from the database to schema.prisma, or null. Without a default schema the engine qualifies every name. */
async function difference() {
  const schema = await readSchema();
  const engine = await startEngine(schema);
  const { exitCode, stdout } = await engine.diff({
    from: { tag: "schemaDatasource", ...schema, configDir: PROJECT },
    to: { tag: "schemaDatamodel", ...schema },
    script: true,
    exitCode: true,
    filters: NO_FILTERS,
  });
  return exitCode === 0 ? null : stdout;
}

const commands = {
  async diff() {
    const sql = await difference();
    if (sql === null) return;
    console.log(sql);
    process.exitCode = 2;
  },

  async create(name) {
    const sql = await difference();
    if (sql === null) return;
    const timestamp = new Date().toISOString().replace(/\D/g, "").slice(0, 14);
    const directory = join(MIGRATIONS, `${timestamp}_${name}`);
    await mkdir(directory);
    await writeFile(join(directory, "migration.sql"), sql);
    console.log(`wrote ${join(directory, "migration.sql")}`);
  },

  async deploy() {
    const schema = await readSchema();
    const engine = await startEngine(schema, IN_CREDITS);
    // Prisma's own drivers do this when they connect.
    const datasourceType = { tag: "schema", ...schema, configDir: PROJECT };
    await engine.dbExecute({ datasourceType, script: 'CREATE SCHEMA IF NOT EXISTS "credits"' });
    const migrationsList = await readMigrations();
    console.log(JSON.stringify(await engine.applyMigrations({ migrationsList, filters: NO_FILTERS })));
  },

  async status() {
    const engine = await startEngine(await readSchema(), IN_CREDITS);
    const input = { migrationsList: await readMigrations(), optInToShadowDatabase: false, filters: NO_FILTERS };
    console.log(JSON.stringify(await engine.diagnoseMigrationHistory(input)));
  },
};

const [command, name] = process.argv.slice(2);
await commands[command](name);
process.exit(); // the pool would keep Node alive for seconds
