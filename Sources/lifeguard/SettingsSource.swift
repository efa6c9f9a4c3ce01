import ArgumentParser
import Settings

/// Where the settings come from: a file, or the command line alone.
struct SettingsSource: ParsableArguments {
  static let defaultPath = "/etc/lifeguard/lifeguard.toml"

  @Option(name: .customLong("config"), help: "The settings file (default: \(SettingsSource.defaultPath)).")
  var path: String?

  @Option(help: "Serve this libpq connection string without any file; clients are trusted.")
  var upstream: String?

  @Option(help: "Where clients connect, with --upstream: HOST:PORT or a socket's path. May be given more than once.")
  var listen: [String] = []

  func validate() throws {
    if upstream != nil && path != nil { throw ValidationError("--upstream and --config exclude each other") }
    if upstream == nil && !listen.isEmpty { throw ValidationError("--listen goes with --upstream") }
  }

  /// Reads and validates.
  func load() throws(SettingsError) -> Settings {
    if let upstream { return try Settings.serving(upstream: upstream, listen: listen) }
    return try Settings.load(path: path ?? SettingsSource.defaultPath)
  }
}
