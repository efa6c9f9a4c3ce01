import Pooling
import PostgresWire
import Testing

@Suite struct TouchedSettingsTests {
  private func touched(_ text: String) -> TouchedSettings {
    let bytes = Array(text.utf8)
    return TouchedSettings(bytes.span, reading: SQLReading())
  }

  @Test(arguments: [
    ("set work_mem = '5MB'", ["work_mem"]),
    ("SET SESSION Work_Mem TO 5", ["work_mem"]),
    ("set app.tenant = 7", ["app.tenant"]),
    ("set a = 1; set b = 2; set a = 3", ["a", "b"]),
    ("begin; set a = 1; commit;", ["a"]),
    ("set time zone 'UTC'", ["timezone"]),
    ("set names 'utf8'", ["client_encoding"]),
    ("set schema 'x'", ["search_path"]),
    ("set role x", ["role"]),
    ("set session authorization x", ["session_authorization", "role"]),
    ("select set_config('session_authorization', 'x', false)", ["session_authorization", "role"]),
    (
      "set session characteristics as transaction read only",
      ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"]
    ),
    ("select set_config('a', 'x', false)", ["a"]),
    ("select set_config('a', 'x' || 'y', false), 1, pg_catalog.set_config('b', $1, $2) from t", ["a", "b"]),
    ("select set_config('a', set_config('b', 'x', false), false)", ["b", "a"]),
    ("with x as (select set_config('A.b', f(1, 2), (false))) select 1", ["a.b"]),
    ("select \"set_config\"('a', 'true', false)", ["a"]),
  ])
  func namesAreRead(text: String, names: [String]) {
    let touched = touched(text)
    #expect(touched.names == names && !touched.isIncomplete && touched.resets.filter { $0 != "role" }.isEmpty)
  }

  @Test(arguments: [
    "set local work_mem = 5", "select set_config('a', 'x', true)", "set transaction read only",
    "set constraints all deferred", "begin; set local a = 1; commit", "select set_config($1, $2, true)",
  ])
  func whatEndsWithTheTransactionTouchesNothing(text: String) {
    #expect(touched(text).isEmpty, "\(text)")
  }

  @Test(arguments: [
    ("reset a.b", ["a.b"]), ("set a to default", ["a"]), ("reset time zone", ["timezone"]), ("reset role", ["role"]),
    ("set role none", ["role"]), ("set a = 1; reset a", ["a"]),
    ("reset session authorization", ["session_authorization", "role"]),
    ("set session authorization default", ["session_authorization", "role"]),
    ("set session_authorization to default", ["session_authorization", "role"]),
    ("reset session_authorization", ["session_authorization", "role"]),
  ])
  func resetsAreTold(text: String, names: [String]) {
    let touched = touched(text)
    #expect(touched.names == names && touched.resets == names && !touched.resetsAll)
  }

  @Test func allSettingsMayBeReset() {
    #expect(touched("reset all").resetsAll && touched("select 1; reset all").resetsAll)
  }

  @Test(arguments: [
    "select set_config($1, 'x', false)", "select set_config(name, value, false) from t",
    "select set_config('a' || 'b', 'x', false)", "update pg_settings set setting = '1' where name = 'x'",
    "select set_config(U&'\\0061', 'x', false)", "set \"größe\".x = 1", "select set_config('größe.x', '1', false)",
    "set xyz",
  ])
  func whatHasNoNameIsTold(text: String) {
    #expect(touched(text).isIncomplete, "\(text)")
  }

  @Test func theSchemaOfTemporaryObjectsIsNoticed() {
    #expect(touched("set search_path = public, pg_temp").mayCreateTemporary)
    #expect(touched("set local search_path = 'PG_TEMP'").mayCreateTemporary)
    #expect(touched("select set_config('search_path', $1, true)").mayCreateTemporary)
    #expect(!touched("set search_path = public").mayCreateTemporary)
    #expect(!touched("reset search_path").mayCreateTemporary)
  }

  @Test func whatParsingReadsIsNoticed() {
    #expect(touched("set local array_nulls = off").changesParsing)
    #expect(touched("set xml option document").changesParsing)
    #expect(!touched("set search_path = x").changesParsing)
  }
}
