internal import Locking
public import Telemetry

/// The last things that happened to pools and to the daemon, for SHOW EVENTS and the status page. Any thread.
public final class EventLog: Sendable {
  /// How many events are kept.
  public static let defaultCapacity = 1000
  /// How far back the last event of the same pool is looked for.
  private static let reach = 32

  private struct Ring {
    var events: [EventSnapshot] = []
    /// Where the oldest is, once the ring is full.
    var oldest = 0
    var lastID: Int64 = 0
  }

  private let capacity: Int
  private let ring = Mutex(Ring())

  /// No events yet.
  public init(capacity: Int = EventLog.defaultCapacity) {
    precondition(capacity > 0, "an event log without room")
    self.capacity = capacity
  }

  /// Adds an event. One that is the same as the last one of its pool is counted there, with the new time.
  ///
  /// - Parameters:
  ///   - kind: one word, such as `reload`.
  ///   - pool: the pool's label; nil for what concerns the daemon.
  ///   - detail: what happened and why, without secrets.
  public func note(kind: String, pool: String? = nil, detail: String, at time: UnixTime) {
    ring.withLock { ring in
      if let index = lastIndex(of: pool, in: ring), ring.events[index].kind == kind,
        ring.events[index].detail == detail
      {
        ring.events[index].count += 1
        ring.events[index].time = time
        return
      }
      ring.lastID += 1
      let event = EventSnapshot(id: ring.lastID, time: time, kind: kind, pool: pool, detail: detail)
      if ring.events.count < capacity {
        ring.events.append(event)
      } else {
        ring.events[ring.oldest] = event
        ring.oldest = (ring.oldest + 1) % capacity
      }
    }
  }

  /// The events that are kept, oldest first.
  public var events: [EventSnapshot] {
    ring.withLock { Array($0.events[$0.oldest...] + $0.events[..<$0.oldest]) }
  }

  private func lastIndex(of pool: String?, in ring: Ring) -> Int? {
    let count = ring.events.count
    for step in 1..<max(1, min(count, Self.reach) + 1) {
      let index = (ring.oldest + count - step) % count
      if ring.events[index].pool == pool { return index }
    }
    return nil
  }
}
