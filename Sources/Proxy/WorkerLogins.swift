import Authentication
import DequeModule
import Dispatch
import Glibc
import Pooling
import PostgresWire
import Reactor
import Settings
import Upstream

/// What the server said to a client's password.
enum PasswordVerdict: Sendable {
  case right
  /// It was called right less than a minute ago.
  case stillRight
  /// Why, for the log.
  case wrong(String)
  /// The server could not be asked, or refuses the client for another reason.
  case unknown(SQLState, String)
}

/// A client on its way to the worker that its pool lives on: everything that it is, as nothing of it has begun yet.
///
/// Unchecked: the old worker keeps nothing of it, and only the new one takes it out of the mailbox.
final class ClientMove: @unchecked Sendable {
  let id: Int64
  let socket: ReleasedSocket
  let name: PoolName
  let peer: PeerAddress
  let connectedAt: Int64
  let client: ClientName
  let isProven: Bool
  let isEncrypted: Bool
  let entry: ClientEntry
  /// What it has sent already, and has not been looked at.
  let unread: [UInt8]

  init(_ client: Client, _ entry: ClientEntry, to name: PoolName) {
    id = client.id
    socket = client.worker.loop.release(client)
    self.name = name
    peer = client.peer
    connectedAt = client.connectedAt
    self.client = client.name
    isProven = client.isProven
    isEncrypted = client.isEncrypted
    self.entry = entry
    unread = client.inbox.copy
  }
}

/// Clients that have not logged in yet.
extension Worker {
  /// Clients that may be connected without having proven who they are; a newcomer beyond that takes the place of the
  /// one that has been there longest. So whoever only connects cannot keep others out, and costs little memory.
  static let halfOpenLimit = 1000

  // MARK: Half-open clients

  func becameHalfOpen(_ client: Client) {
    halfOpen.append(client.token)
    halfOpenCount += 1
    while halfOpenCount > Worker.halfOpenLimit, let oldest = halfOpen.popFirst() {
      guard let client = self.client(oldest), client.isHalfOpen else { continue }
      client.close(with: ErrorFields(.fatal, .tooManyConnections, "too many clients are logging in"))
    }
    // Those that have logged in meanwhile are taken out now and then.
    if halfOpen.count > 2 * Worker.halfOpenLimit {
      halfOpen.removeAll { self.client($0)?.isHalfOpen != true }
    }
  }

  /// The client has proven who it is, or is gone.
  func noLongerHalfOpen(_ client: Client) {
    guard client.isHalfOpen else { return }
    client.isHalfOpen = false
    halfOpenCount -= 1
  }

  // MARK: Work on other threads

  /// Derives keys from a password, which takes milliseconds, off the loop.
  func derive(_ derivation: Derivation, for client: Client) {
    let token = client.token
    environment.derivations.async { [mailbox] in mailbox.post(.derived(token, derivation.run())) }
  }

  /// Has the server say whether a password is right, by logging in there with it, unless it has said so lately.
  func verify(_ password: Password, of client: Client) {
    let name = PoolName(database: client.database, user: client.user)
    let token = client.token
    if environment.provenPasswords.hold(password, of: name, now: loop.now) {
      // Not from inside the client's own handler.
      mailbox.post(.verified(token, .stillRight, password))
      return
    }
    guard let section = settings.database(named: client.database) else {
      mailbox.post(.verified(token, .unknown(.invalidCatalogName, "it is no longer served"), password))
      return
    }
    let target: ConnectionTarget
    do {
      target = try configuration.verification(
        section, database: client.database, user: client.user, password: password)
    } catch {
      mailbox.post(.verified(token, .unknown(.configurationLimitExceeded, error.text), password))
      return
    }
    let timeout = settings.pool(database: client.database, user: client.user).connectTimeout
    environment.verifiers.dial(target, deadline: loop.now + timeout.nanoseconds) { [mailbox] outcome in
      mailbox.post(.verified(token, PasswordVerdict(outcome), password))
    }
  }

  /// The server has been asked.
  func verified(_ token: ClientToken, _ verdict: PasswordVerdict, _ password: Password) {
    guard let client = client(token) else { return }
    if case .right = verdict {
      environment.provenPasswords.add(
        password, of: PoolName(database: client.database, user: client.user), now: loop.now)
    }
    client.verified(verdict, password)
  }

  // MARK: Moving

  /// Sends a client to another worker, at the end of the turn.
  func move(_ client: Client, to home: Int, for name: PoolName) {
    moving.append(Departure(client: client, home: home, name: name))
  }

  struct Departure {
    var client: Client
    var home: Int
    var name: PoolName
  }

  func sendMovingClients() {
    guard !moving.isEmpty else { return }
    for departure in moving {
      guard departure.client.phase == .moving, let entry = departure.client.entry else {
        environment.homes.arrived(for: departure.name)
        continue
      }
      let move = ClientMove(departure.client, entry, to: departure.name)
      departure.client.phase = .closed
      departure.client.inbox.release(to: loop.blocks)
      removeClient(departure.client)
      environment.send(move, to: departure.home)
    }
    moving.removeAll()
  }

  /// A client has come from the worker that it had connected to.
  func arrived(_ move: ClientMove) {
    let client = addClient(id: move.id, peer: move.peer, connectedAt: move.connectedAt, entry: move.entry)
    client.name = move.client
    client.isAdmitted = true
    client.isProven = move.isProven
    client.isEncrypted = move.isEncrypted
    let unread = move.unread
    client.inbox.append(unread.span, from: loop.blocks)
    loop.adopt(move.socket, for: client)
    receivedFromOther()
    if isDraining {
      environment.homes.arrived(for: move.name)
      _ = client.fail(.cannotConnectNow, "the connection pooler is shutting down")
    } else if client.enterPool(move.name) {
      resume(client)
    }
  }
}

extension PasswordVerdict {
  /// What a login at the server with nothing but the password says. The connection is closed again. One that the server
  /// let in without asking (its `trust`) proves nothing.
  fileprivate init(_ outcome: Result<ServerLink, DialFailure>) {
    switch outcome {
    case .success(let link):
      self = link.usedPassword ? .right : .wrong("the server asked for no password, so it proves nothing")
      link.finish()
    case .failure(let failure):
      let code = failure.sqlState.flatMap { SQLState($0) }
      switch failure.kind {
      case .authentication: self = .wrong(failure.text)
      case .unknownDatabase, .tooManyConnections, .insufficientPrivilege, .startingUp, .unreachable, .timeout,
        .wrongRole, .tls, .cancelled, .other:
        self = .unknown(code ?? .cannotConnectNow, failure.text)
      }
    }
  }
}
