import Authentication
import Pooling
import Settings

/// What is known of a client only until it is served: an idle one, of which there may be tens of thousands, has none.
final class ClientEntry {
  /// What it has sent and been sent before its pool was known, without TLS's own (bytes); the pool's telemetry gets it
  /// then.
  var received = 0
  var sent = 0
  /// While its phase is `authentication`.
  var exchange: LoginExchange?
  /// A key is being derived, or the server asked: nothing is read until that is over.
  var awaitsVerdict = false
  /// The password that the server has called right, until the pool has it.
  var provenPassword: Password?
  /// When the login is given up (nanoseconds, as the loop's clock).
  let deadline: Int64
  /// Those of the StartupMessage.
  var settings = StartupSettings.none

  /// - Parameter deadline: nanoseconds, as the loop's clock; `Int64.max` for never.
  init(deadline: Int64) { self.deadline = deadline }
}

/// Who a client says that it is. Clients of a pool that call themselves as its sessions do share the pool's. Equal where
/// user and database are, and hashed once: each login looks for its pool.
final class ClientName: Hashable, Sendable {
  let user: String
  let database: String
  /// It wants the admin console.
  let isForConsole: Bool
  private let hash: Int

  /// Of a client that has not said it yet.
  static let none = ClientName(user: "", database: "")

  init(user: String, database: String) {
    self.user = user
    self.database = database
    isForConsole = Settings.reservedDatabases.contains(database)
    hash = PoolName(database: database, user: user).hashValue
  }

  static func == (left: ClientName, right: ClientName) -> Bool {
    left === right
      || left.hash == right.hash
        && PoolName(database: left.database, user: left.user) == PoolName(database: right.database, user: right.user)
  }

  func hash(into hasher: inout Hasher) { hasher.combine(hash) }
}
