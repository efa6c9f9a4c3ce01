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
  let settings: Result<[SessionSetting], CommandLineOptions.Failure>

  /// nil where the name of the user or the database is not UTF-8.
  init?(_ message: StartupMessage) {
    guard let user = message.user.exactText, let database = message.database.exactText else { return nil }
    name = ClientName(user: user, database: database)
    replication = message.replication
    needsNegotiation = message.version.minor > 0 || !message.protocolOptions.isEmpty
    unknownOptions = message.protocolOptions.map { WireText($0.name) }
    do {
      settings = .success(try message.settings().map { SessionSetting(name: $0.name, value: $0.value) })
    } catch {
      settings = .failure(error)
    }
  }
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
  }

  /// By hash; of two that have the same the later one is kept.
  private var entries: [Int: Entry] = [:]

  /// What a packet of these bytes said before.
  subscript(_ packet: Span<UInt8>) -> ClientStartup? {
    guard packet.count <= ClientStartups.longest, let entry = entries[hash(packet)],
      entry.packet.count == packet.count
    else { return nil }
    for index in packet.indices where packet[index] != entry.packet[index] { return nil }
    return entry.startup
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
