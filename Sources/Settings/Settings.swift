internal import Glibc

/// Everything the daemon is told, validated as a whole: there is no value of this type that cannot be served.
public struct Settings: Sendable, Equatable {
  /// `[server]`.
  public internal(set) var server = ServerSettings()
  /// `[pool]` over the defaults; for a pool's own settings ask `pool(database:user:)`.
  public internal(set) var pool = PoolSettings()
  /// `[databases.NAME]` by name, `*` among them; look names up with `database(named:)`.
  public internal(set) var databases: [String: DatabaseSettings] = [:]
  /// `[users.NAME]` by name.
  public internal(set) var users: [String: UserSettings] = [:]
  /// `[auth]`.
  public internal(set) var auth = AuthSettings()
  /// `[admin]`.
  public internal(set) var admin = AdminSettings()
  /// `[http]`.
  public internal(set) var http = HTTPSettings()
  /// `[health]`.
  public internal(set) var health = HealthSettings()
  /// `[log]`.
  public internal(set) var log = LogSettings()
  /// What is legal but probably not meant.
  public internal(set) var warnings: [Problem] = []
  /// Where each key stands that the file sets.
  var origins: [KeyPath: SourcePosition] = [:]

  /// A key and the section it stands in, as in the file.
  struct KeyPath: Hashable, Sendable {
    var section: String
    var key: String
  }

  init() {}

  /// Names that clients reach the console by, so that no database can have them.
  public static let reservedDatabases: Set<String> = ["lifeguard", "pgbouncer"]

  /// Reads a settings text. `file` is its name, for messages; `.ini` at its end is refused.
  public static func parse(text: String, file: String) throws(SettingsError) -> Settings {
    if file.lowercased().hasSuffix(".ini") {
      throw SettingsError([
        Problem(
          file: file, section: "", key: "",
          message: "PgBouncer's format is not supported yet; write the settings as TOML in a file named *.toml")
      ])
    }
    var reader = SettingsReader(file: file)
    return try reader.read(text)
  }

  /// Reads a settings file.
  public static func load(path: String) throws(SettingsError) -> Settings {
    let bytes: [UInt8]
    do {
      bytes = try contents(of: path)
    } catch {
      throw SettingsError([Problem(file: path, section: "", key: "", message: error.reason)])
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw SettingsError([Problem(file: path, section: "", key: "", message: "is not UTF-8 text")])
    }
    return try parse(text: text, file: path)
  }

  /// The database that a client means by `name`: its own section, or `[databases."*"]`; nil where neither is there,
  /// and for the console's names and those of pools for reads.
  public func database(named name: String) -> DatabaseSettings? {
    if Self.reservedDatabases.contains(name) || readsDatabase(calledBy: name) != nil { return nil }
    return databases[name] ?? databases["*"]
  }

  /// The database whose pools for reads are called so; nil where there are none.
  func readsDatabase(calledBy name: String) -> DatabaseSettings? {
    guard name.hasSuffix(DatabaseSettings.readsSuffix) else { return nil }
    let database = String(name.dropLast(DatabaseSettings.readsSuffix.count))
    return (databases[database] ?? databases["*"]).flatMap { $0.readUpstream == nil ? nil : $0 }
  }

  /// What holds for the pool of `user` on `database`: the defaults, then `[pool]`, then the database's section (or
  /// that of `*`), then the user's.
  public func pool(database: String, user: String) -> PoolSettings {
    var result = pool
    if let database = self.database(named: database) { result = result.applying(database.overrides) }
    if let user = users[user] { result = result.applying(user.overrides) }
    return result
  }

  /// `pool_workers` wherever it is set, by section.
  public var poolWorkers: [(section: String, count: Int)] {
    var all: [(section: String, count: Int)] = [("[pool]", pool.poolWorkers)]
    for name in databases.keys.sorted() {
      if let count = databases[name]?.overrides.poolWorkers { all.append(("[databases.\(name)]", count)) }
    }
    for name in users.keys.sorted() {
      if let count = users[name]?.overrides.poolWorkers { all.append(("[users.\(name)]", count)) }
    }
    return all
  }

  /// Equal when every key is; where keys stand in the file and what was warned about does not count.
  public static func == (a: Settings, b: Settings) -> Bool {
    a.server == b.server && a.pool == b.pool && a.databases == b.databases && a.users == b.users && a.auth == b.auth
      && a.admin == b.admin && a.http == b.http && a.health == b.health && a.log == b.log
  }

  private struct Unreadable: Error {
    var reason: String
  }

  /// Far beyond any settings file; keeps a wrong path (a log, a device) from filling the memory.
  private static let largestFile = 16 << 20

  private static func contents(of path: String) throws(Unreadable) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Unreadable(reason: "cannot be opened: \(lastError())") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    while true {
      let (chunk, count) = readChunk(descriptor)
      if count < 0 {
        if errno == EINTR { continue }
        throw Unreadable(reason: "cannot be read: \(lastError())")
      }
      if count == 0 { return bytes }
      bytes += chunk.prefix(count)
      if bytes.count > largestFile { throw Unreadable(reason: "is larger than \(largestFile >> 20) MB") }
    }
  }

  private static func readChunk(_ descriptor: Int32) -> (bytes: [UInt8], count: Int) {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
    return (bytes, count)
  }

  private static func lastError() -> String { unsafe String(cString: strerror(errno)) }
}
