/// What the machine wants done. Effects are carried out in order.
///
/// An effect may name a server connection that was reported `lost`, or a client that is gone, after the effect was
/// made and before it is carried out; see `PoolSet` for what to do then.
public enum PoolEffect: Equatable, Sendable {
  /// Open a connection of this pool. Its permit is taken. Answer with `dialed`, `dialFailed` or `dialDeferred`, always and once.
  case dial(ServerToken, PoolID)
  /// The connection is this client's until `checkin`, `settle`, `discard` or `lost`.
  case assign(ClientToken, ServerToken)
  /// Send a bare Sync and answer with `pinged`: true at ReadyForQuery 'I', false after `pre_ping_timeout`.
  case ping(ServerToken)
  /// Close the connection and wait for its EOF. Answer with `closed`.
  case close(ServerToken, CloseReason)
  /// The client gets no connection.
  case fail(ClientToken, WaitFailure)
  /// The connection goes to another shard, as one of the messages says that `nextShardMessage` names; its token is void.
  case depart(ServerToken)
}

/// Why a server connection is closed.
public enum CloseReason: Equatable, Sendable {
  /// It reached the age of `pool_recycle`.
  case recycled
  /// It is of an older generation: one like it was found dead, a reconnect was ordered, or its host is not the right one
  /// any more.
  case generation
  /// It came back while `pool_size` connections were idle.
  case overflow
  /// A reload made the pool, or a limit above it, smaller than what is open.
  case shrunk
  /// A client of another pool under the same limit needs its permit.
  case limit
  /// It did not answer a ping.
  case pingFailed
  /// Its pool is retired.
  case retired
  /// Its pool is paused.
  case paused
  /// The caller's own: an administrator wants it closed (`discard`).
  case killed
  /// The caller's own: an error or a state that cannot be cleaned (`discard`).
  case unfit
  /// The caller's own: it did not answer a question that takes no time (`discard`).
  case unanswered
  /// The caller's own: it sent what was not asked for (`discard`).
  case protocolViolation
}

/// Why a client gets no connection.
public enum WaitFailure: Equatable, Sendable {
  /// It waited for `pool_timeout`.
  case timeout
  /// The upstream cannot be reached, and the client waited for `pool_timeout` or `on_outage` is fail.
  case outage
  /// The server refuses the login or has no such database; waiting cannot heal that.
  case rejected
  /// The pool is retired.
  case retired
}

/// How a dial failed.
public enum DialVerdict: Equatable, Sendable {
  /// Refused, timed out, EOF before authentication, 57P03: the host, not the login.
  case unreachable
  /// Authentication failed (28P01, 28000), unknown database (3D000), and the like: waiting cannot heal it.
  case rejected
  /// 53300: the server has no connection left.
  case exhausted
}

/// How a server connection died that nobody asked to close.
public enum LossKind: Equatable, Sendable {
  /// EOF or reset without a word.
  case eof
  /// 57P01, 57P05, 25P03: this session was ended. Any client can cause that.
  case terminated
  /// 57P02: another backend crashed, and all are ended.
  case crashed
  /// 57P03 on a connection that was open.
  case cannotConnectNow

  /// The other connections have most likely died too.
  var isServerWide: Bool { self == .crashed || self == .cannotConnectNow }
}
