/// Pieces of the daemon's own SQL.
enum SQLText {
  /// A string literal that reads the same whether or not standard_conforming_strings is on.
  static func literal(_ text: String) -> String {
    let quoted = text.replacing("'", with: "''")
    return text.contains("\\") ? "E'\(quoted.replacing("\\", with: "\\\\"))'" : "'\(quoted)'"
  }

  /// A setting's name as SQL: each part quoted.
  static func identifier(_ name: String) -> String {
    name.split(separator: ".", omittingEmptySubsequences: false)
      .map { "\"\($0.replacing("\"", with: "\"\""))\"" }.joined(separator: ".")
  }
}
