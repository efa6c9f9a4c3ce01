// Node's pg, without its native part.
const assert = require("assert");
const { Client } = require("pg");
const Cursor = require("pg-cursor");

const db = new Client();

async function fails(code, work) {
  await assert.rejects(work, (error) => error.code === code || assert.fail(`${error.code}, not ${code}: ${error}`));
}

async function column(sql) {
  return (await db.query(sql)).rows.map((row) => Object.values(row)[0]);
}

const features = {
  async query() {
    const results = await db.query("select 1 as a; select 2 as a");
    assert.deepStrictEqual(results.map((result) => result.rows[0].a), [1, 2]);
  },
  async parameters() {
    assert.strictEqual((await db.query("select $1::int + $2::int as sum", [1, 2])).rows[0].sum, 3);
  },
  async prepared() {
    const backend = async (number) => {
      const query = { name: "mine", text: "select pg_backend_pid() as pid, $1::int + 1 as value", values: [number] };
      const row = (await db.query(query)).rows[0];
      assert.strictEqual(row.value, number + 1);
      return row.pid;
    };
    const first = await backend(1);
    const holder = new Client();
    await holder.connect();
    await holder.query("begin; select 1");
    assert.notStrictEqual(await backend(2), first);
    await holder.end();
    for (let number = 0; number < 20; number++) await backend(number);
  },
  async types() {
    const at = new Date("2026-01-02T03:04:05Z");
    const values = ["1152921504606846976", 1.5, "12345.678", true, "ä☃", Buffer.from([0, 255]), at, null, [1, 2], { a: [1] }];
    const sql = "select $1::int8, $2::float8, $3::numeric, $4::bool, $5::text, $6::bytea, $7::timestamptz, $8::text, " +
      "$9::int4[], $10::jsonb";
    const { rows } = await db.query({ text: sql, values, rowMode: "array" });
    assert.deepStrictEqual(rows[0], values);
  },
  async transaction() {
    await db.query("begin");
    await db.query("create table language (a int, b text)");
    await db.query("insert into language values (1, 'kept')");
    await db.query("commit");
    await db.query("begin");
    await db.query("insert into language values (2, 'lost')");
    await db.query("rollback");
    assert.deepStrictEqual(await column("select a from language"), [1]);
  },
  async savepoint() {
    await db.query("begin");
    await db.query("savepoint point");
    await fails("22012", () => db.query("select 1/0"));
    await db.query("rollback to point");
    await db.query("insert into language values ($1, 'kept')", [4]);
    await db.query("commit");
    assert.deepStrictEqual(await column("select a from language order by a"), [1, 4]);
  },
  async error() {
    await fails("22012", () => db.query("select 1/0"));
    await fails("42P01", () => db.query("select * from no_such_table where a = $1", [1]));
    assert.deepStrictEqual(await column("select 1"), [1]);
  },
  copy_in: () => "COPY is in a package of its own (pg-copy-streams)",
  copy_out: () => "COPY is in a package of its own (pg-copy-streams)",
  async cursor() {
    const cursor = db.query(new Cursor("select * from generate_series(1, $1::int) as n", [1000]));
    let total = 0;
    for (let rows; (rows = await cursor.read(100)).length > 0;) total += rows.reduce((sum, row) => sum + row.n, 0);
    await cursor.close();
    assert.strictEqual(total, 500500);
  },
  pipeline: () => "is too old for pipelines",
  async listen() {
    const heard = new Promise((resolve) => db.once("notification", resolve));
    await db.query("listen news");
    const other = new Client();
    await other.connect();
    await other.query("notify news, 'hello'");
    await other.end();
    assert.strictEqual((await heard).payload, "hello");
    await db.query("unlisten news");
  },
  async cancel() {
    const other = new Client();
    const query = new (require("pg").Query)("select pg_sleep(30)");
    const failed = new Promise((resolve) => query.on("error", resolve));
    db.query(query);
    setTimeout(() => other.cancel(db, query), 200);
    assert.strictEqual((await failed).code, "57014");
    assert.deepStrictEqual(await column("select 1"), [1]);
  },
  async lost() {
    await fails("40003", () => db.query("select pg_terminate_backend(pg_backend_pid())"));
    assert.deepStrictEqual(await column("select 1"), [1]);
  },
};

(async () => {
  await db.connect();
  for (const [name, work] of Object.entries(features)) {
    const reason = await work();
    console.log(`${name}: ${reason ? `none: ${reason}` : "ok"}`);
  }
  await db.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
