import CLibpq
import Glibc

/// What a probe has found.
public enum ProbeOutcome: Sendable, Hashable {
  /// The server has answered; `nil` facts where it is too old for the query or does not let the prober ask.
  case answered(latencyNanoseconds: Int64, ProbeFacts?)
  /// The server is there, but refuses the login or has no connection left: its words, in one line.
  case refused(String)
  /// It cannot be reached, or does not answer in time.
  case failed(String)
}

/// What a server says of itself.
public struct ProbeFacts: Sendable, Hashable {
  public var isInRecovery: Bool
  public var isReadOnly: Bool
  /// Bytes of WAL: written by a primary, replayed by a standby.
  public var walPosition: Int64
  /// The same for a primary and its standbys.
  public var systemIdentifier: String
}

/// One probe: a query on the host's connection, which is opened first where there is none.
struct Probe {
  let login: ConnectionTarget
  /// Nanoseconds of CLOCK_MONOTONIC.
  let deadline: Int64
  let wakeDescriptor: Int32

  /// Names are qualified, since the session is in a user's database.
  private static let query = """
    select recovery, pg_catalog.current_setting('transaction_read_only') = 'on',
      (case when recovery then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end
        operator(pg_catalog.-) '0/0')::pg_catalog.int8,
      (select system_identifier from pg_catalog.pg_control_system())
    from (select pg_catalog.pg_is_in_recovery() as recovery offset 0) as server
    """

  /// nil: interrupted. The link stays open after an answer. One that was open and has died says nothing about the host:
  /// then a new one is tried within the same deadline.
  func run(_ link: inout ServerLink?) -> ProbeOutcome? {
    if let open = link {
      let reply = ask(open)
      guard case .failed(_, isLate: false) = reply else { return conclude(reply, &link) }
      link = nil
    }
    var dial = Dial(target: login, deadline: deadline, wakeDescriptor: wakeDescriptor)
    switch dial.run() {
    case .success(let opened):
      link = opened
      return conclude(ask(opened), &link)
    case .failure(let failure):
      switch failure.kind {
      case .cancelled: return nil
      case .unreachable, .timeout, .startingUp, .other: return .failed(failure.text)
      case .authentication, .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .wrongRole, .tls:
        return .refused(failure.text)
      }
    }
  }

  /// What a reply amounts to. The link is kept after an answer only.
  private func conclude(_ reply: Reply, _ link: inout ServerLink?) -> ProbeOutcome? {
    switch reply {
    case .facts(let facts, let nanoseconds): return .answered(latencyNanoseconds: nanoseconds, facts)
    case .woken:
      link = nil
      return nil
    case .failed(let text, _):
      link = nil
      return .failed(text)
    }
  }

  // MARK: The query

  /// One for the row, one for the end of the query; what else a server may find to say.
  private static let resultLimit = 10

  private enum Reply {
    case facts(ProbeFacts?, nanoseconds: Int64)
    /// The connection is of no use any more. Late: the deadline has passed, or a new one would do no better.
    case failed(String, isLate: Bool)
    case woken
  }

  private func ask(_ link: ServerLink) -> Reply {
    let connection = unsafe link.connection
    let start = Clock.now()
    guard unsafe PQsendQuery(connection, Self.query) == 1 else {
      return .failed(unsafe words(connection), isLate: false)
    }
    // Row by row: a peer that never stops sending fills no memory.
    unsafe _ = PQsetSingleRowMode(connection)
    var facts: ProbeFacts?
    var resultCount = 0
    while true {
      let unsent = unsafe PQflush(connection)
      if unsent < 0 { return .failed(unsafe words(connection), isLate: false) }
      if unsent == 0, unsafe PQisBusy(connection) == 0 {
        guard let result = unsafe PQgetResult(connection) else {
          return unsafe PQstatus(connection) == CONNECTION_OK
            ? .facts(facts, nanoseconds: Clock.now() - start) : .failed(words(connection), isLate: false)
        }
        facts = unsafe ProbeFacts(result) ?? facts
        unsafe PQclear(result)
        resultCount += 1
        if resultCount > Self.resultLimit { return .failed("the server's answer has no end", isLate: true) }
        continue
      }
      let interest = Int16(POLLIN) | (unsent > 0 ? Int16(POLLOUT) : 0)
      switch Waiting.wait(wakeDescriptor, link.descriptor, interest, nanoseconds: deadline - Clock.now()) {
      case .ready:
        if unsafe PQconsumeInput(connection) == 0 { return .failed(unsafe words(connection), isLate: false) }
      case .timeout: return .failed("the server at \(link.host.label) did not answer in time", isLate: true)
      case .woken: return .woken
      case .failed(let error): return .failed("waiting for the server failed (poll: errno \(error))", isLate: false)
      }
    }
  }

  private func words(_ connection: OpaquePointer) -> String {
    unsafe LibpqText.oneLine(String(cString: PQerrorMessage(connection)))
  }
}

extension ProbeFacts {
  /// The only row of the probe's query; nil for anything else.
  fileprivate init?(_ result: OpaquePointer) {
    guard unsafe PQresultStatus(result) == PGRES_SINGLE_TUPLE, unsafe PQnfields(result) == 4 else { return nil }
    let values = (0..<Int32(4)).map { unsafe String(cString: PQgetvalue(result, 0, $0)) }
    isInRecovery = values[0] == "t"
    isReadOnly = values[1] == "t"
    // Nothing has been replayed yet.
    walPosition = Int64(values[2]) ?? 0
    systemIdentifier = values[3]
  }
}
