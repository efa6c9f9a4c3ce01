import Glibc
import Pooling
import PostgresWire

/// What a StartupMessage says, as far as the proxy wants to know.
final class ClientStartup {
  let name: ClientName
  let replication: StartupMessage.Replication
  /// The client speaks a newer protocol than 3.0, or wants options of it that nobody knows.
  let needsNegotiation: Bool
  let unknownOptions: [WireText]
  /// Those of its session.
  let settings: Result<StartupSettings, CommandLineOptions.Failure>

  /// nil where the name of the user or the database is not UTF-8.
  init?(_ message: StartupMessage) {
    guard let user = message.user.exactText, let database = message.database.exactText else { return nil }
    name = ClientName(user: user, database: database)
    replication = message.replication
    needsNegotiation = message.version.minor > 0 || !message.protocolOptions.isEmpty
    unknownOptions = message.protocolOptions.map { WireText($0.name) }
    do {
      settings = .success(
        StartupSettings(try message.settings().map { SessionSetting(name: $0.name, value: $0.value) }))
    } catch {
      settings = .failure(error)
    }
  }
}

/// The settings that a client's session begins with. Hashed once, as each login looks for what the last one was told.
struct StartupSettings: Hashable {
  static let none = StartupSettings([])

  let all: [SessionSetting]
  private let hash: Int

  init(_ all: [SessionSetting]) {
    self.all = all
    hash = all.hashValue
  }

  static func == (left: StartupSettings, right: StartupSettings) -> Bool { left.all == right.all }

  func hash(into hasher: inout Hasher) { hasher.combine(hash) }
}

/// The StartupMessages that came last. All connections of a service begin with the same bytes, which need to be read only
/// once.
struct ClientStartups {
  /// Longer packets (bytes), and more of them, are read each time.
  static let longest = 1024
  static let most = 64

  private struct Entry {
    var packet: [UInt8]
    var startup: ClientStartup

    func isOf(_ other: Span<UInt8>) -> Bool {
      guard packet.count == other.count else { return false }
      return unsafe other.withUnsafeBytes { other in
        unsafe packet.withUnsafeBytes { unsafe memcmp($0.baseAddress!, other.baseAddress!, other.count) == 0 }
      }
    }
  }

  /// By hash; of two that have the same the later one is kept.
  private var entries: [Int: Entry] = [:]
  /// Clients of one service come in a row.
  private var latest: Entry?

  /// What a packet of these bytes (at least one) said before.
  subscript(_ packet: Span<UInt8>) -> ClientStartup? {
    mutating get {
      if let latest, latest.isOf(packet) { return latest.startup }
      guard packet.count <= ClientStartups.longest, let entry = entries[hash(packet)], entry.isOf(packet) else {
        return nil
      }
      latest = entry
      return entry.startup
    }
  }

  mutating func remember(_ packet: Span<UInt8>, _ startup: ClientStartup) {
    guard packet.count <= ClientStartups.longest else { return }
    if entries.count >= ClientStartups.most { entries.removeAll() }
    var bytes: [UInt8] = []
    bytes.append(packet)
    entries[hash(packet)] = Entry(packet: bytes, startup: startup)
  }

  private func hash(_ packet: Span<UInt8>) -> Int {
    var hasher = Hasher()
    unsafe packet.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    return hasher.finalize()
  }
}
