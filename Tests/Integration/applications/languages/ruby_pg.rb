# Ruby's pg.
require "pg"

$stdout.sync = true
$db = PG.connect

def check(holds, what = "it is not so") = holds || raise(what)

def fails(code)
  yield
rescue PG::Error => error
  found = error.result&.error_field(PG::PG_DIAG_SQLSTATE)
  check(found == code, "#{found}, not #{code}: #{error}")
else
  raise "no error #{code}"
end

def column(sql) = $db.exec(sql).column_values(0).map(&:to_i)

FEATURES = {
  query: -> {
    check($db.exec("select 1; select 2").getvalue(0, 0) == "2")
  },
  parameters: -> {
    check($db.exec_params("select $1::int + $2::int", [1, 2]).getvalue(0, 0) == "3")
  },
  prepared: -> {
    $db.prepare("mine", "select pg_backend_pid(), $1::int + 1")
    backend = ->(number) {
      pid, value = $db.exec_prepared("mine", [number]).values[0]
      check(value.to_i == number + 1)
      pid
    }
    first = backend.(1)
    holder = PG.connect
    holder.exec("begin; select 1")
    check(backend.(2) != first, "another connection")
    holder.close
    20.times(&backend)
    $db.exec("deallocate mine")
  },
  types: -> {
    $db.type_map_for_results = PG::BasicTypeMapForResults.new($db)
    bytes = { value: "\x00\xFF".b, format: 1 }
    row = $db.exec_params(
      "select $1::int8, $2::float8, $3::numeric, $4::bool, $5::text, $6::bytea, $7::text, array[1, 2]",
      [2**60, 1.5, "12345.678", true, "ä☃", bytes, nil]).values[0]
    $db.type_map_for_results = PG::TypeMapAllStrings.new
    check(row == [2**60, 1.5, BigDecimal("12345.678"), true, "ä☃", "\x00\xFF".b, nil, [1, 2]], row.inspect)
  },
  transaction: -> {
    $db.transaction { |db| db.exec("create table language (a int, b text); insert into language values (1, 'kept')") }
    begin
      $db.transaction do |db|
        db.exec("insert into language values (2, 'lost')")
        raise ZeroDivisionError
      end
    rescue ZeroDivisionError
    end
    check(column("select a from language") == [1])
  },
  savepoint: -> {
    $db.transaction do |db|
      db.exec("savepoint point")
      fails("22012") { db.exec("select 1/0") }
      db.exec("rollback to point")
      db.exec("insert into language values (4, 'kept')")
    end
    check(column("select a from language order by a") == [1, 4])
  },
  error: -> {
    fails("22012") { $db.exec("select 1/0") }
    fails("42P01") { $db.exec_params("select * from no_such_table where a = $1", [1]) }
    check(column("select 1") == [1])
  },
  copy_in: -> {
    $db.copy_data("copy language from stdin") { 10_000.times { |n| $db.put_copy_data("#{n}\tcopied\n") } }
  },
  copy_out: -> {
    count = 0
    $db.copy_data("copy (select * from language where b = 'copied') to stdout") { count += 1 while $db.get_copy_data }
    check(count == 10_000, "#{count} lines")
  },
  cursor: -> {
    $db.send_query("select * from generate_series(1, 1000)")
    $db.set_single_row_mode
    total = 0
    while (result = $db.get_result)
      result.stream_each { |row| total += row.values[0].to_i }
    end
    check(total == 500_500, total.to_s)
    # libpq keeps the mode into a pipeline otherwise.
    check(column("select 1") == [1])
  },
  pipeline: -> {
    next "is too old for pipelines" unless $db.respond_to?(:enter_pipeline_mode)
    $db.enter_pipeline_mode
    50.times { |n| $db.send_query_params("select $1::int", [n]) }
    $db.pipeline_sync
    50.times do |n|
      check($db.get_result.getvalue(0, 0) == n.to_s)
      check($db.get_result.nil?)
    end
    check($db.get_result.result_status == PG::PGRES_PIPELINE_SYNC)
    $db.exit_pipeline_mode
    nil
  },
  listen: -> {
    $db.exec("listen news")
    other = PG.connect
    other.exec("notify news, 'hello'")
    other.close
    heard = nil
    $db.wait_for_notify(10) { |_, _, text| heard = text }
    check(heard == "hello", heard.inspect)
    $db.exec("unlisten news")
  },
  cancel: -> {
    $db.send_query("select pg_sleep(30)")
    sleep 0.2
    check($db.cancel.nil?)
    fails("57014") { $db.get_last_result }
    check(column("select 1") == [1])
  },
  lost: -> {
    fails("40003") { $db.exec("select pg_terminate_backend(pg_backend_pid())") }
    check(column("select 1") == [1])
  }
}

FEATURES.each do |name, work|
  reason = work.call
  puts "#{name}: #{reason.is_a?(String) ? "none: #{reason}" : "ok"}"
end
$db.close
