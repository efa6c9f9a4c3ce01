/// Why a read-only transaction that a standby might have served went to the primary, as metrics call it.
public enum ReadFallback: String, CaseIterable, Sendable {
  /// The standby is further behind than `max_lag`, or how far it is behind is not known.
  case lag
  /// No standby can be reached.
  case unreachable
  /// What can be reached is in the wrong role.
  case role
  /// No connection to the standby was to be had within `pool_timeout`.
  case timeout
  /// The standby refuses the login.
  case rejected
}
