import ArgumentParser

/// The command line (`lifeguard --help`).
@main
struct Lifeguard: AsyncParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "lifeguard",
    abstract: "A PostgreSQL connection pool and health-check daemon.",
    version: "lifeguard \(version)",
    subcommands: [Serve.self, Check.self, AdminCommandLine.self])
}
