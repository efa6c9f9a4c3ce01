import ArgumentParser
import Proxy
import Settings

/// `lifeguard check`: validates without starting anything.
struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Validate settings: every problem with file, line and key.",
    discussion: "Exits with 1 where there is any problem, else with 0.")

  @OptionGroup var source: SettingsSource

  @Flag(help: "Print the settings in force, defaults included, as TOML. Secrets are masked.")
  var print = false

  func run() throws {
    let settings: Settings
    do {
      settings = try source.load()
    } catch {
      for problem in error.problems { StandardError.write("\(problem)") }
      throw ExitCode.failure
    }
    for warning in settings.warnings { StandardError.write("warning: \(warning)") }
    do {
      let configuration = try ServingConfiguration(settings)
      for warning in configuration.warnings { StandardError.write("warning: \(warning)") }
    } catch {
      for problem in error.problems { StandardError.write(problem) }
      throw ExitCode.failure
    }
    Swift.print(print ? settings.effectiveText() : "settings are valid: \(Check.summary(settings))")
  }

  private static func summary(_ settings: Settings) -> String {
    let databases = settings.databases.count
    let listeners = settings.server.listen.map(\.description).joined(separator: ", ")
    return "\(databases) \(databases == 1 ? "database" : "databases"), listening on \(listeners)"
  }
}
