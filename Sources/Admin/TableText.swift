extension AdminTable {
  /// As psql shows a table: headings centred, numbers to the right, and how many rows there are. Ends with a newline.
  ///
  /// Control characters are written as escapes, so that no value can move the reader's cursor.
  public var alignedText: String {
    let cells = rows.map { row in row.map { Self.printable($0 ?? "") } }
    let widths = columns.indices.map { index in
      cells.reduce(columns[index].name.count) { max($0, $1[index].count) }
    }
    var lines = [
      zip(columns, widths).map { Self.centred($0.name, $1) }.joined(separator: "|"),
      widths.map { String(repeating: "-", count: $0 + 2) }.joined(separator: "+"),
    ]
    for row in cells {
      lines.append(
        columns.indices.map { index in
          let blanks = String(repeating: " ", count: widths[index] - row[index].count)
          return columns[index].type.isNumber ? " \(blanks)\(row[index]) " : " \(row[index])\(blanks) "
        }.joined(separator: "|"))
    }
    lines.append(rows.count == 1 ? "(1 row)" : "(\(rows.count) rows)")
    return lines.map { $0.trimmingTrailingBlanks() + "\n" }.joined()
  }

  /// A JSON array (RFC 8259) with an object for each row, one a line. Numbers are JSON numbers, NULL is null. Ends
  /// with a newline.
  public var json: String {
    if rows.isEmpty { return "[]\n" }
    let objects = rows.map { row in
      let members = zip(columns, row).map { column, value in
        "\(JSONText.string(column.name)): \(Self.jsonValue(value, column.type))"
      }
      return "{" + members.joined(separator: ", ") + "}"
    }
    return "[\n  " + objects.joined(separator: ",\n  ") + "\n]\n"
  }

  private static func jsonValue(_ value: String?, _ type: ColumnType) -> String {
    guard let value else { return "null" }
    return switch type {
    case .int4, .int8, .numeric: value
    case .bool: value == "t" ? "true" : "false"
    case .text: JSONText.string(value)
    }
  }

  private static func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.properties.generalCategory == .control:
        result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func centred(_ text: String, _ width: Int) -> String {
    let blanks = width - text.count
    let left = blanks / 2
    return String(repeating: " ", count: left + 1) + text + String(repeating: " ", count: blanks - left + 1)
  }
}

extension String {
  fileprivate func trimmingTrailingBlanks() -> Substring {
    var result = self[...]
    while result.last == " " { result.removeLast() }
    return result
  }
}
