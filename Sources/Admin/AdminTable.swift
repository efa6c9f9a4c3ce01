/// The answer to SHOW: columns and rows, ready for RowDescription and DataRow, a text table or JSON.
public struct AdminTable: Sendable, Equatable {
  /// A column's type; the raw value is its OID in PostgreSQL's `pg_type`.
  public enum ColumnType: UInt32, Sendable {
    case bool = 16
    case int8 = 20
    case int4 = 23
    case text = 25
    case numeric = 1700

    /// The type's size in bytes for RowDescription; -1 where it varies.
    public var size: Int16 {
      switch self {
      case .bool: 1
      case .int4: 4
      case .int8: 8
      case .text, .numeric: -1
      }
    }

    /// Whether values are numbers.
    var isNumber: Bool {
      switch self {
      case .int4, .int8, .numeric: true
      case .bool, .text: false
      }
    }
  }

  /// A column.
  public struct Column: Sendable, Equatable {
    /// As PgBouncer calls it, where PgBouncer has it.
    public var name: String
    /// What its values are.
    public var type: ColumnType
  }

  /// The columns.
  public private(set) var columns: [Column]
  /// The rows: a value for each column in PostgreSQL's text format, nil for NULL.
  public private(set) var rows: [[String?]]

  /// One row for each thing, made by what each column takes from it.
  init<Thing>(_ things: [Thing], _ sources: [ColumnSource<Thing>]) {
    columns = sources.map(\.column)
    rows = things.map { thing in sources.map { $0.value(thing) } }
  }
}

/// A column and where its values come from, so that name, type and value of a column stand together.
struct ColumnSource<Thing> {
  let column: AdminTable.Column
  let value: (Thing) -> String?

  private init(_ name: String, _ type: AdminTable.ColumnType, _ value: @escaping (Thing) -> String?) {
    column = AdminTable.Column(name: name, type: type)
    self.value = value
  }

  static func text(_ name: String, _ value: @escaping (Thing) -> String?) -> ColumnSource {
    ColumnSource(name, .text, value)
  }

  static func int4(_ name: String, _ value: @escaping (Thing) -> Int) -> ColumnSource {
    ColumnSource(name, .int4) { String(Int32(clamping: value($0))) }
  }

  static func int8(_ name: String, _ value: @escaping (Thing) -> Int64) -> ColumnSource {
    ColumnSource(name, .int8) { String(value($0)) }
  }

  /// PgBouncer's type for its statistics.
  static func numeric(_ name: String, _ value: @escaping (Thing) -> UInt64) -> ColumnSource {
    ColumnSource(name, .numeric) { String(value($0)) }
  }

  static func bool(_ name: String, _ value: @escaping (Thing) -> Bool) -> ColumnSource {
    ColumnSource(name, .bool) { value($0) ? "t" : "f" }
  }

  /// A duration in the two columns that PgBouncer uses for one: whole seconds, and the microseconds beyond them.
  static func duration(
    _ secondsName: String, _ microsecondsName: String, _ microseconds: @escaping (Thing) -> Int64
  ) -> [ColumnSource] {
    [
      int4(secondsName) { Int(microseconds($0) / 1_000_000) },
      int4(microsecondsName) { Int(microseconds($0) % 1_000_000) },
    ]
  }
}
