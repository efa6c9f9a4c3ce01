/// Something that happened to a pool or to the daemon, as SHOW EVENTS and the status page list it.
public struct EventSnapshot: Sendable, Equatable {
  /// Rises by one from event to event.
  public var id: Int64
  /// When it happened last.
  public var time: UnixTime
  /// One word, such as `connect_failed`.
  public var kind: String
  /// The pool's label, `database/user`; nil for what concerns the daemon.
  public var pool: String?
  /// What happened and why, for a reader, without secrets.
  public var detail: String
  /// How often the same happened in a row; 1 or more.
  public var count: Int

  /// An event that happened once, unless told otherwise.
  public init(id: Int64, time: UnixTime, kind: String, pool: String?, detail: String, count: Int = 1) {
    self.id = id
    self.time = time
    self.kind = kind
    self.pool = pool
    self.detail = detail
    self.count = count
  }
}
