import ArgumentParser
import Settings

/// Where the settings come from: a file, or the command line alone.
struct SettingsSource: ParsableArguments {
  static let defaultPath = "/etc/lifeguard/lifeguard.toml"

  @Option(name: .customLong("config"), help: "The settings file (default: \(SettingsSource.defaultPath)).")
  var path: String?

  @Option(help: "Serve this libpq connection string without any file.")
  var upstream: String?

  @Option(help: "Where clients connect, with --upstream: HOST:PORT or a socket's path. May be given more than once.")
  var listen: [String] = []

  @Option(
    help: "How clients prove who they are, with --upstream: trust (default), password, md5, scram-sha-256, upstream.")
  var auth: String?

  @Option(help: "Users and secrets in PgBouncer's format, with --upstream and --auth.")
  var userlist: String?

  func validate() throws {
    if upstream != nil && path != nil { throw ValidationError("--upstream and --config exclude each other") }
    let isWithoutUpstream = upstream == nil
    for (option, isGiven) in [("--listen", !listen.isEmpty), ("--auth", auth != nil), ("--userlist", userlist != nil)]
    where isGiven && isWithoutUpstream {
      throw ValidationError("\(option) goes with --upstream")
    }
  }

  /// Reads and validates.
  func load() throws(SettingsError) -> Settings {
    if let upstream {
      return try Settings.serving(upstream: upstream, listen: listen, method: auth, file: userlist)
    }
    return try Settings.load(path: path ?? SettingsSource.defaultPath)
  }
}
