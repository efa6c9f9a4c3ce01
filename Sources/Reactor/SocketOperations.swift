/// What the io_uring driver has asked the kernel to do on one socket and what it asks next. Pure: wishes and completions
/// in, requests out.
///
/// A slot is not used for another socket before all of its operations are over. So a completion never has to be told
/// from one of a former socket, and the kernel never writes for a socket that nobody knows any more.
struct SocketOperations {
  enum Kind: UInt8, CaseIterable {
    /// Bytes, or news of clients or mail.
    case input
    /// Clients themselves.
    case accept
    /// A broken connection, while there is no input.
    case hangUp
    /// Room for more output.
    case output
  }

  enum Request: Equatable {
    case start(Kind)
    case cancel(Kind)
  }

  /// What the loop wants of a socket.
  struct Wishes: Equatable {
    /// The socket is watched at all.
    var isWatched = false
    var input = false
    var accept = false
    /// While input is not wanted: it must not go on either. (It may, as long as nothing comes: a client that lets go
    /// of back-pressure soon then costs nothing.)
    var stopsInput = false
    /// While input is not wanted and has stopped: whether the connection breaks.
    var hangUp = false
    var output = false
  }

  private var states = InlineArray<4, Operation>(repeating: .idle)

  /// ```
  ///    idle → running → cancelling
  ///      ↑       |           |
  ///      +-------+-----------+     the last completion
  /// ```
  enum Operation {
    /// The kernel knows nothing of it.
    case idle
    /// The kernel will complete it, some kinds more than once.
    case running
    /// So it will, soon: it has been asked to stop.
    case cancelling
  }

  /// No completion is to come.
  var isIdle: Bool { Kind.allCases.allSatisfy { self[$0] == .idle } }

  private(set) subscript(_ kind: Kind) -> Operation {
    get { states[Int(kind.rawValue)] }
    set { states[Int(kind.rawValue)] = newValue }
  }

  /// The next request to make, which must then be made; nil once all is as wished, or will be after completions that are
  /// to come.
  mutating func next(for wishes: Wishes) -> Request? {
    if wishes.isWatched {
      if wishes.input && start(.input) { return .start(.input) }
      if !wishes.input && wishes.stopsInput && cancel(.input) { return .cancel(.input) }
      if !wishes.input && wishes.hangUp && self[.input] == .idle && start(.hangUp) { return .start(.hangUp) }
      if wishes.accept && start(.accept) { return .start(.accept) }
      if !wishes.accept && cancel(.accept) { return .cancel(.accept) }
      if wishes.output && start(.output) { return .start(.output) }
      return nil
    }
    for kind in Kind.allCases where cancel(kind) { return .cancel(kind) }
    return nil
  }

  /// A completion came.
  mutating func completed(_ kind: Kind, isLast: Bool) {
    precondition(self[kind] != .idle, "a completion that nobody asked for")
    if isLast { self[kind] = .idle }
  }

  /// The kernel did not find the operation. Either its last completion has come or is on the way, or the kernel was
  /// between two steps of it: then it must be asked again.
  mutating func cancelFailed(_ kind: Kind) {
    if self[kind] == .cancelling { self[kind] = .running }
  }

  private mutating func start(_ kind: Kind) -> Bool {
    guard self[kind] == .idle else { return false }
    self[kind] = .running
    return true
  }

  private mutating func cancel(_ kind: Kind) -> Bool {
    guard self[kind] == .running else { return false }
    self[kind] = .cancelling
    return true
  }
}
