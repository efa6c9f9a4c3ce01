/// The server's open connections. Belongs to its event loop.
///
/// When there are as many as may be, an old one makes room: whoever opens connections and then says nothing keeps nobody
/// out.
final class StatusConnections {
  private let limit: Int
  /// Oldest first.
  private var open: [StatusConnection] = []

  init(limit: Int) {
    self.limit = limit
  }

  /// Takes a new connection in. Beyond the limit another one is closed for it.
  func add(_ connection: StatusConnection) {
    if open.count >= limit { closeOldest() }
    open.append(connection)
  }

  /// The connection is closed.
  func remove(_ connection: StatusConnection) {
    open.removeAll { $0 === connection }
  }

  /// Closes the oldest connection of those that keep the server waiting, or, as a slow reader keeps it waiting too, the
  /// oldest of all. False where there is none.
  @discardableResult
  func closeOldest() -> Bool {
    guard let oldest = open.first(where: { !$0.isAnswering }) ?? open.first else { return false }
    remove(oldest)
    oldest.close()
    return true
  }
}
