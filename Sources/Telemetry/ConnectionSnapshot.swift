/// What a client is doing, in PgBouncer's words.
public enum ClientState: String, Sendable, CaseIterable {
  /// It has a server connection.
  case active
  /// It has none and wants none.
  case idle
  /// It waits for one.
  case waiting
  /// A connection that only brought a cancel request, which is being passed on.
  case activeCancelRequest = "active_cancel_req"
  /// A connection that only brought a cancel request, which has to wait.
  case waitingCancelRequest = "waiting_cancel_req"
  /// It has not logged in yet.
  case login
}

/// What a server connection is doing, in PgBouncer's words, and then in ours.
public enum ServerState: String, Sendable, CaseIterable {
  /// A client has it.
  case active
  /// It can be given out.
  case idle
  /// It can be given out after a ping.
  case used
  /// Its ping or its reset query is under way.
  case tested
  /// It is being opened.
  case new
  /// A connection over which a cancel request is being sent.
  case activeCancel = "active_cancel"
  /// It is free, but a cancel request aimed at it is under way.
  case beingCanceled = "being_canceled"
  /// It has been closed, but its end has not been seen yet.
  case closing
}

/// One end of a socket.
public struct SocketAddressSnapshot: Sendable, Equatable {
  /// A numeric address, or `unix`.
  public var host: String
  /// 0 where there is none.
  public var port: Int

  /// An address and port.
  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }
}

/// What clients and server connections have in common.
public struct ConnectionSnapshot: Sendable, Equatable {
  /// Identifies the connection: a number that rises for as long as the daemon runs, for clients and for server
  /// connections apart. The log and the DETAIL of errors have the same.
  public var id: Int64
  /// The name that the client connected to.
  public var database: String
  /// The user, as known to the server.
  public var user: String
  /// The other end; nil while a connection is being opened.
  public var remote: SocketAddressSnapshot?
  /// Our end; nil while a connection is being opened.
  public var local: SocketAddressSnapshot?
  /// When the connection was made.
  public var connectTime: UnixTime
  /// When the latest request came; nil before the first.
  public var requestTime: UnixTime?
  /// `application_name` as the client set it, or as it is set on the server now.
  public var applicationName: String?
  /// The TLS version and cipher; nil without TLS.
  public var tls: String?
  /// Bytes that have come and wait to be worked on.
  public var unreadBytes = 0
  /// Bytes that wait for the peer to take them.
  public var unsentBytes = 0
  /// How many protocol-level prepared statements there are.
  public var preparedStatements = 0

  /// A connection that has no addresses and no request yet.
  public init(id: Int64, database: String, user: String, connectTime: UnixTime) {
    self.id = id
    self.database = database
    self.user = user
    self.connectTime = connectTime
  }
}

/// One client at one moment.
public struct ClientSnapshot: Sendable, Equatable {
  /// What it is doing.
  public var state: ClientState
  /// Its connection.
  public var connection: ConnectionSnapshot
  /// How long it has been waiting, in microseconds; 0 when it does not wait.
  public var waitMicroseconds: Int64 = 0
  /// The `id` of the server connection that it has.
  public var serverID: Int64?
  /// Why it keeps its server connection; nil unless it is pinned.
  public var pin: PinSnapshot?

  /// A client that neither waits nor has a server connection.
  public init(state: ClientState, connection: ConnectionSnapshot) {
    self.state = state
    self.connection = connection
  }
}

/// Why a client keeps its server connection between transactions.
public struct PinSnapshot: Sendable, Equatable {
  public var reasons: [PinReason]
  /// The beginning of the text that led to it; empty where there was none.
  public var statement: String
  /// Since when, in microseconds.
  public var ageMicroseconds: Int64

  public init(reasons: [PinReason], statement: String, ageMicroseconds: Int64) {
    self.reasons = reasons
    self.statement = statement
    self.ageMicroseconds = ageMicroseconds
  }

  /// The reasons, with commas between them.
  public var text: String { reasons.map(\.rawValue).joined(separator: ", ") }
}

/// One server connection at one moment.
public struct ServerSnapshot: Sendable, Equatable {
  /// What it is doing.
  public var state: ServerState
  /// Its connection.
  public var connection: ConnectionSnapshot
  /// It will be closed as soon as its client gives it back.
  public var closeNeeded = false
  /// The process id of its backend; nil while it is being opened.
  public var backendProcessID: Int32?
  /// The `id` of the client that has it.
  public var clientID: Int64?

  /// A server connection that nobody has.
  public init(state: ServerState, connection: ConnectionSnapshot) {
    self.state = state
    self.connection = connection
  }
}
