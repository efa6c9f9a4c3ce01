import Settings

/// The least that a valid file needs; tests put their own lines behind it.
let minimum = """
  [auth]
  method = "trust"
  [databases.app]
  upstream = "host=db1 dbname=app"

  """

func settings(_ text: String) throws(SettingsError) -> Settings {
  try Settings.parse(text: minimum + text, file: "t.toml")
}

/// The problems of a text, one a line as they are shown; empty where it is fine.
func problems(of text: String) -> [String] {
  do {
    _ = try Settings.parse(text: text, file: "t.toml")
    return []
  } catch {
    return error.problems.map(\.description)
  }
}

/// The problems of a text behind the minimum; its first line is line 5.
func problems(behindMinimum text: String) -> [String] {
  problems(of: minimum + text)
}
