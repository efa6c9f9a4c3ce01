/// What a pool wants of its hosts (`target_session_attrs`, `max_lag`).
public struct HostWish: Equatable, Sendable {
  public enum Session: Sendable {
    case any
    /// Transactions may write.
    case readWrite
    /// Transactions may not write.
    case readOnly
    case primary
    case standby
    /// A standby, or else any host.
    case preferStandby
  }

  public var session: Session
  /// The furthest that a standby may be behind, in nanoseconds; nil for no limit.
  public var maxLagNanoseconds: Int64?

  public init(_ session: Session = .any, maxLagNanoseconds: Int64? = nil) {
    self.session = session
    self.maxLagNanoseconds = maxLagNanoseconds
  }

  /// How what is known of a host fits; what is not known speaks for it.
  public func fitness(of facts: HostHealth.Facts) -> HostFitness {
    if let role = facts.role, !isFor(role, isReadOnly: facts.isReadOnly) { return .wrongRole }
    if let maxLagNanoseconds, let lag = facts.lag, lag.nanoseconds > maxLagNanoseconds { return .lagging }
    return .fit
  }

  private func isFor(_ role: HostHealth.Role, isReadOnly: Bool) -> Bool {
    switch session {
    case .any, .preferStandby: true
    case .readWrite: !isReadOnly
    case .readOnly: isReadOnly
    case .primary: role == .primary
    case .standby: role == .standby
    }
  }
}

/// Whether a host is one that a pool wants.
public enum HostFitness: Sendable {
  case fit
  /// The server would not be let pass by `target_session_attrs`.
  case wrongRole
  /// It is further behind than `max_lag`. It serves where no other host does.
  case lagging
}
