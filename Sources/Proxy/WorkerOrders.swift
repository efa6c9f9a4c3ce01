import Pooling
import PostgresWire

/// What an administrator has the worker do.
extension Worker {
  /// The orders have changed: pools begin or cease to be paused.
  func take(_ orders: Orders) {
    self.orders = orders
    for pool in allPools {
      let isPaused = orders.pauses(pool.database)
      guard isPaused != pools.counts(pool.id).isPaused else { continue }
      if isPaused { pools.pause(pool.id, now: time) } else { pools.resume(pool.id, now: time) }
      pool.published.update { $0.isPaused = isPaused }
    }
    carryOutEffects()
  }

  func carryOut(_ operation: Operation) {
    switch operation {
    case .reconnect(let scope):
      for pool in allPools where scope.contains(pool.database) && isServed(pool) {
        pools.reconnect(pool.id, now: time)
      }
    case .kill(let scope): kill(scope)
    case .killClient(let id, let reply):
      let client = allClients.first { $0.id == id }
      client?.close(with: .closedByAdministrator)
      reply(client != nil)
    }
    carryOutEffects()
  }

  private func kill(_ scope: OrderScope) {
    for client in allClients where client.pool.map({ scope.contains($0.database) }) ?? false {
      client.close(with: .closedByAdministrator)
    }
    for pool in allPools where scope.contains(pool.database) { pool.killedAt = loop.now }
    for dial in dials.values where scope.contains(dial.pool.database) {
      dial.ticket.cancel()
    }
    for server in servers.all where scope.contains(server.pool.database) {
      if case .closing = server.work { continue }
      abandonServer(server, reason: .killed)
    }
  }

  // MARK: Waits

  /// Answers the waits whose condition holds; at the end of each turn.
  func answerWaits() {
    waits.removeAll { wait in
      if case .closed = wait.condition, !isPaused(wait.scope) {
        wait.reply(.revoked)
      } else if allPools.contains(where: { wait.scope.contains($0.database) && !holds(wait.condition, $0) }) {
        return false
      } else {
        wait.reply(.reached)
      }
      return true
    }
  }

  /// The worker ends: with it all of its connections are closed.
  func endWaits() {
    for wait in waits { wait.reply(.reached) }
    waits = []
  }

  private func isPaused(_ scope: OrderScope) -> Bool {
    switch scope {
    case .all: orders.pausesAll
    case .database(let name): orders.pauses(name)
    }
  }

  private func holds(_ condition: PoolCondition, _ pool: Pool) -> Bool {
    guard pool.travelling == 0 else { return false }
    return switch condition {
    case .closed: pools.counts(pool.id).open == 0
    case .current: isServed(pool) ? !pools.hasOutdated(pool.id) : pools.isEmpty(pool.id)
    }
  }
}

extension ErrorFields {
  /// As PostgreSQL says it.
  static let closedByAdministrator = ErrorFields(
    .fatal, .adminShutdown, "terminating connection due to administrator command")
}
